import * as v from 'valibot';
import { EXTENSION_NAME } from '../model/names.ts';
import { closest } from '../util/closest.ts';

// Parts of the schemas of definitions and of tests. A message has what is wrong and, after a line break, what to write.

/** Kinds of problems that have consequences for where a problem is located. */
export type ProblemCode = 'unknown-key' | 'missing-key' | 'duplicate-component';

/** A problem of a definition. */
export interface DefinitionProblem {
  /** Keys and indexes of the value, such as `versions`, `track`. */
  readonly path: readonly (string | number)[];
  readonly what: string;
  readonly next: string | undefined;
  readonly code?: ProblemCode;
  /** The key that an unknown one is probably a misspelling of. */
  readonly meant?: string;
  /** The wrong value; undefined for a missing key. */
  readonly value: unknown;
  /** Name of the component with the problem. */
  readonly component?: string | undefined;
  /** Folder of the lock of a shared component. */
  readonly lock?: string | undefined;
}

/** A message with what to do, a code and a key after line breaks: valibot has one text per issue. */
export const message = (what: string, next = '', code: ProblemCode | '' = '', meant = ''): string => [what, next, code, meant].join('\n');

function didYouMean(word: string, words: readonly string[]): string {
  const [found] = closest(word, words);
  return found === undefined ? `use one of: ${words.join(', ')}` : `did you mean '${found}'?`;
}

function typeName(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'string') return `the string '${value}'`;
  if (typeof value === 'number' || typeof value === 'boolean') return `${value}`;
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
export const expected = (what: string) => (issue: { readonly input: unknown }) => message(`expected ${what}, got ${typeName(issue.input)}`);

type Issue = v.BaseIssue<unknown>;

/** An object with exactly these keys. */
export function shape(entries: v.ObjectEntries): v.GenericSchema {
  const keys = Object.keys(entries);
  return v.strictObject(entries, (issue: Issue) => {
    const { key: last } = issue.path?.at(-1) ?? {};
    const key = typeof last === 'string' ? last : '';
    if (issue.expected === 'never') return message(`unknown key '${key}'`, didYouMean(key, keys), 'unknown-key', closest(key, keys)[0]);
    if (issue.expected?.startsWith('"') === true) return message(`'${key}' is missing`, undefined, 'missing-key');
    return message(`expected an object, got ${typeName(issue.input)}`);
  });
}

export const text = v.string(expected('a string'));
export const filled = v.pipe(
  text,
  v.check((value) => value.trim() !== '', 'must not be empty'),
);
export const flag = v.boolean(expected('true or false'));
export const listOf = (item: v.GenericSchema): v.GenericSchema<unknown[]> =>
  v.array(item, ({ input }: Issue) =>
    message(`expected a list, got ${typeName(input)}`, typeof input === 'string' ? `write it as ['${input}']` : undefined),
  );
export const mapOf = (value: v.GenericSchema): v.GenericSchema =>
  v.pipe(
    v.custom((input) => typeof input === 'object' && input !== null && !Array.isArray(input), expected('an object')),
    v.record(v.string(), value),
  );

export function oneOf<const W extends readonly string[]>(words: W): v.GenericSchema<W[number]> {
  return v.picklist(words, ({ input }: Issue) =>
    typeof input === 'string'
      ? message(`'${input}' is not one of ${words.join(', ')}`, didYouMean(input, words))
      : message(`expected one of ${words.join(', ')}, got ${typeName(input)}`),
  );
}

/** A string that matches a pattern; `next` tells how to write it. */
export const like = (pattern: RegExp, what: string, next: string): v.GenericSchema<string> =>
  v.pipe(
    text,
    v.regex(pattern, ({ input }) => message(`'${input}' is not ${what}`, next)),
  );

export const extensionName = like(EXTENSION_NAME, 'a valid extension name', 'use lowercase letters, digits and single dashes');
export const unitName = like(
  /^[A-Za-z0-9:_.\\-]+(?:@[A-Za-z0-9:_.\\-]+)?\.(?:service|socket|timer|path|mount|automount|target|slice|swap|scope|device)$/,
  'the name of a unit that can be started',
  "write it with its suffix, such as 'tool.service'; a template needs an instance: 'tool@eth0.service'",
);
/** True if the brackets and braces of a glob are closed. */
function isGlob(pattern: string): boolean {
  let braces = 0;
  let bracket = false;
  for (const char of pattern) {
    if (bracket) bracket = char !== ']';
    else if (char === '[') bracket = true;
    else if (char === '{') braces += 1;
    else if (char === '}') braces -= 1;
    if (braces < 0) return false;
  }
  return braces === 0 && !bracket;
}
export const glob = v.pipe(
  filled,
  v.check(isGlob, ({ input }) => message(`'${input}' is not a valid glob`, 'close its brackets and braces')),
  v.check(
    (pattern) => !/^!?\//.test(pattern),
    ({ input }) => message(`'${input}' begins with a slash`, 'paths are relative to the root of the files of the origin'),
  ),
);

/** A text in which braces may contain only these words. */
export function template(schema: v.GenericSchema<string>, words: readonly string[]): v.GenericSchema<string> {
  const unknown = (value: string): string | undefined =>
    [...value.matchAll(/\{(\w+)\}/g)].map(([, word = '']) => word).find((word) => !words.includes(word));
  return v.pipe(
    schema,
    v.check(
      (value) => unknown(value) === undefined,
      ({ input }) => message(`'{${unknown(input) ?? ''}}' is not a known word`, didYouMean(unknown(input) ?? '', words)),
    ),
  );
}
/** A union of objects with different kinds. */
export function byKind(options: Readonly<Record<string, v.GenericSchema>>): v.GenericSchema {
  const kinds = Object.keys(options);
  const kindOf = v.looseObject({ kind: oneOf(kinds) }, (issue: Issue) =>
    issue.path === undefined
      ? message(`expected an object, got ${typeName(issue.input)}`)
      : message("'kind' is missing", `use one of: ${kinds.join(', ')}`, 'missing-key'),
  );
  return v.lazy((input) => {
    const kind = (input as { kind?: unknown } | null | undefined)?.kind;
    return (typeof kind === 'string' ? options[kind] : undefined) ?? kindOf;
  });
}

/** A mistyped key is both unknown and missing: one problem, not two. */
function withoutDoubles(problems: readonly DefinitionProblem[]): DefinitionProblem[] {
  const keyOf = (path: DefinitionProblem['path']): string => JSON.stringify(path);
  const meant = new Set(problems.flatMap(({ path, meant: key }) => (key === undefined ? [] : [keyOf([...path.slice(0, -1), key])])));
  return problems.filter(({ code, value, path }) => code !== 'missing-key' || value !== undefined || !meant.has(keyOf(path)));
}

/** All problems of a value; `below` is the path of the value itself. */
export function problemsOf(schema: v.GenericSchema, value: unknown, below: readonly (string | number)[]): DefinitionProblem[] {
  const parsed = v.safeParse(schema, value);
  const problems = (parsed.issues ?? []).map((issue): DefinitionProblem => {
    const [what = '', next, code, meant] = issue.message.split('\n').map((part) => part || undefined);
    const path = (issue.path ?? []).map(({ key }) => (typeof key === 'number' ? key : String(key)));
    return { path: [...below, ...path], what, next, code: code as ProblemCode | undefined, meant, value: issue.input };
  });
  return withoutDoubles(problems);
}
