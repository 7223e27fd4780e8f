import * as v from 'valibot';
import { messageOf, UserError, UserErrors } from './errors.ts';

/** Name of the text in errors: `pins.json`, `package.json`. */
interface About {
  readonly what: string;
  /** The file. */
  readonly where: string;
  /** What to do about it. */
  readonly next?: string;
}

/** Characters of a text in which lines are looked up: nobody edits a record of many megabytes. */
const LONGEST = 4 << 20;

/** Line (from 1) of a syntax error of JSON.parse; for a text that ends too early, its last line. */
function lineOfSyntax(text: string, message: string): number {
  // V8: `… in JSON at position 12 (line 2 column 3)`, and `Unexpected end of JSON input` without a place.
  const line = /\(line (\d+) column/.exec(message)?.[1];
  const last = text.trimEnd().split('\n').length;
  if (line !== undefined) return Math.min(Number(line), last);
  return /Unexpected end/.test(message) ? last : 1;
}

/** A container of JSON that is being read. */
interface Level {
  readonly isList: boolean;
  /** The key of the next value, or its index. */
  key: string | number;
}

/** Line (from 1) of a place in valid JSON, by its keys and indexes: the line of the innermost that exists. */
export function lineOfPath(text: string, path: readonly (string | number)[]): number {
  const levels: Level[] = [];
  let [best, depth] = [0, 0];
  const note = (at: number): void => {
    const isWanted = levels.length <= path.length && levels.every(({ key }, index) => String(key) === String(path[index]));
    if (isWanted && levels.length > depth) [best, depth] = [at, levels.length];
  };
  const tokens = [...text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g)];
  for (const [index, { 0: token, index: at }] of tokens.entries()) {
    const level = levels.at(-1);
    if (token === ':') continue;
    if (token === ',') {
      if (level?.isList === true) level.key = Number(level.key) + 1;
    } else if (token === '}' || token === ']') levels.pop();
    else if (level?.isList === false && tokens[index + 1]?.[0] === ':') {
      level.key = JSON.parse(token) as string;
      note(at);
    } else {
      if (level?.isList === true) note(at);
      if (token === '{') levels.push({ isList: false, key: '' });
      if (token === '[') levels.push({ isList: true, key: 0 });
    }
  }
  return text.slice(0, best).split('\n').length;
}

/** The most errors that are listed for one text; finding the line of each takes a pass over the text. */
const SHOWN = 20;

/**
 * Reads JSON that a person may have edited, or another process, job or host wrote. Throws a UserError with all problems, at most 20, each with
 * its file and line.
 */
export function parseJson<S extends v.GenericSchema>(schema: S, text: string, { what, where, next }: About): v.InferOutput<S> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${what} is not JSON: ${messageOf(cause)}`, {
      where: `${where}:${lineOfSyntax(text, messageOf(cause))}`,
      cause,
      next,
    });
  }
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const errors = parsed.issues.slice(0, SHOWN).map((issue) => {
    const keys = (issue.path ?? []).map(({ key }) => (typeof key === 'number' ? key : String(key)));
    const path = v.getDotPath(issue);
    return new UserError(`invalid ${what}: ${path === null ? '' : `${path}: `}${issue.message}`, {
      where: text.length > LONGEST ? where : `${where}:${lineOfPath(text, keys)}`,
      next,
    });
  });
  const [first] = errors;
  const count = parsed.issues.length;
  if (first !== undefined && count === 1) throw first;
  throw new UserErrors(`invalid ${what}: ${count} errors${count > SHOWN ? `, of which the first ${SHOWN} are` : ''}`, errors, { where });
}

/** A JSON object; a list is not one. */
export const jsonObject = v.custom<Record<string, unknown>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  ({ input }) => `expected an object, got ${input === null ? 'null' : Array.isArray(input) ? 'a list' : `a ${typeof input}`}`,
);
