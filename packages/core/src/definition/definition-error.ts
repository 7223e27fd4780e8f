import type { DefinitionProblem } from './schema-kit.ts';
import { UserError, UserErrors } from '../util/errors.ts';
import { blankComments } from '../util/text-position.ts';

/** Keys and indexes as code writes them: `versions.track`, `components[0].install`. */
function pathText(path: DefinitionProblem['path']): string {
  return path.map((step, index) => (typeof step === 'number' ? `[${step}]` : index === 0 ? step : `.${step}`)).join('');
}

function errorOf({ path, what, next, code }: DefinitionProblem, where: string | undefined): UserError {
  // The text names an unknown or missing key.
  const shown = code === 'unknown-key' || code === 'missing-key' ? path.slice(0, -1) : path;
  return new UserError(shown.length === 0 ? what : `${pathText(shown)}: ${what}`, { where, next });
}

/** A definition that is not valid, with all its problems. */
export class DefinitionError extends UserErrors {
  readonly problems: readonly DefinitionProblem[];

  constructor(problems: readonly DefinitionProblem[], where: (problem: DefinitionProblem) => string | undefined = () => undefined) {
    const errors = problems.map((problem) => errorOf(problem, where(problem)));
    const [first] = errors;
    if (first !== undefined && errors.length === 1) super(first.message, [], { where: first.where, next: first.next });
    else super(`the definition has ${errors.length} errors`, errors);
    this.name = 'DefinitionError';
    this.problems = problems;
  }
}

const escaped = (word: string): string => RegExp.escape(word);
const keyPattern = (key: string, value = ''): RegExp => new RegExp(`(?<![\\w.'"$-])['"]?${escaped(key)}['"]?\\s*:\\s*${value}`);
const literal = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? `['"\`]${escaped(value)}['"\`]` : undefined;

/** Position of the first match from `at` on; undefined without a match. */
function find(text: string, pattern: RegExp | undefined, at: number): number | undefined {
  const found = pattern === undefined ? -1 : text.slice(at).search(pattern);
  return found === -1 ? undefined : at + found;
}

/** Where the text of a component begins: at its name, after `components:` if the text has that key. */
function findComponent(text: string, name: string | undefined, isSecond: boolean): number | undefined {
  const is = literal(name);
  if (is === undefined) return undefined;
  const pattern = new RegExp(is);
  const list = find(text, keyPattern('components'), 0);
  const first = (list === undefined ? undefined : find(text, pattern, list)) ?? find(text, pattern, 0);
  return isSecond && first !== undefined ? (find(text, pattern, first + 1) ?? first) : first;
}

/** Finds keys one after the other. Returns the position of the last one that was found, and whether all were. */
function follow(text: string, keys: readonly string[], from: number): { at: number | undefined; isWhole: boolean } {
  let at: number | undefined;
  for (const key of keys) {
    const next = find(text, keyPattern(key), at ?? from);
    if (next === undefined) return { at, isWhole: false };
    at = next;
  }
  return { at, isWhole: true };
}

/**
 * Line (from 1) of a problem in extension.ts: that of the value after its keys, otherwise of the keys, otherwise of the same key or value elsewhere
 * (a definition may use constants). Problems of a component are searched after the component's name.
 */
export function lineOfProblem(source: string, { path, code, value, component }: DefinitionProblem): number {
  const text = blankComments(source);
  const start = findComponent(text, component, code === 'duplicate-component');
  // Another object may have the missing key.
  const there = code === 'missing-key' ? path.slice(0, -1) : path;
  const keys = there.filter((step) => typeof step === 'string').slice(start === undefined ? 0 : 1);
  const key = keys.at(-1);
  const is = literal(value);
  const { at, isWhole } = follow(text, keys, start ?? 0);
  const behind = isWhole && at !== undefined && is !== undefined ? find(text, new RegExp(is), at) : undefined;
  const elsewhere =
    key === undefined
      ? []
      : [
          is === undefined ? undefined : keyPattern(key, is),
          is === undefined ? undefined : new RegExp(is),
          keyPattern(key),
          // A shorthand property: `{ starts }`.
          new RegExp(`(?<![\\w.'"$-])${escaped(key)}\\b(?=\\s*[,}])`),
        ].map((pattern) => find(text, pattern, 0));
  const found = [
    behind,
    isWhole ? at : undefined,
    isWhole ? start : undefined,
    ...elsewhere,
    at,
    start,
    find(text, /\b(?:defineExtension|test[A-Z]\w+)\(/, 0),
  ];
  return text.slice(0, found.find((one) => one !== undefined) ?? 0).split('\n').length;
}
