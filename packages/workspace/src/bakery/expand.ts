import { posix } from 'node:path';
import { parseShell, type ShellCommand } from './shell.ts';

/** Variables by name; a value that only a run knows is undefined. */
export interface Names {
  readonly values: Map<string, string | undefined>;
}

/** Nested expansions; more are hostile. */
const MAX_NESTED = 20;
/** Characters of a value; longer ones are hostile. */
const MAX_LENGTH = 16 << 10;

/** The position behind the bracket that ends what begins at `start`. */
function closing(text: string, start: number, open: string, close: string): number {
  let depth = 0;
  for (let at = start; at < text.length; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === open) depth += 1;
    else if (text[at] === close && (depth -= 1) === 0) return at + 1;
  }
  return text.length;
}

/** `${name#v}` and the like; undefined for what only a run knows. */
function parameter(text: string, names: Names, depth: number): string | undefined {
  const [, name = '', operator = '', rest = ''] = /^(\w+|@|\*)(##|#|%%|%|:-|-)?([^]*)$/.exec(text) ?? [];
  const value = names.values.get(name);
  if (operator === '') return rest === '' ? value : undefined;
  if (operator === ':-' || operator === '-')
    return value === undefined || (value === '' && operator === ':-') ? expand(rest, names, depth) : value;
  const affix = expand(rest, names, depth);
  if (value === undefined || affix === undefined || /[*?[]/.test(affix)) return undefined;
  if (operator.startsWith('#')) return value.startsWith(affix) ? value.slice(affix.length) : value;
  return value.endsWith(affix) ? value.slice(0, value.length - affix.length) : value;
}

/** Commands whose output can be told without running them. */
function output({ words, pipedInto }: ShellCommand, names: Names, depth: number): string | undefined {
  const [name = '', ...rest] = words;
  const args = rest.map((word) => expand(word, names, depth));
  const [a, b, c] = args;
  if (name === 'echo' && pipedInto.length === 1 && pipedInto[0]?.words[0] === 'sed') {
    const script = pipedInto[0].words[1]?.replaceAll(/["']/g, '');
    return script === 's/^v//' ? a?.replace(/^v/, '') : undefined;
  }
  if (pipedInto.length > 0) return undefined;
  if (name === 'arch_transform') return a !== undefined && c === a ? b : c;
  if (name === 'get_optional_param') return b;
  if (name === 'echo') return args.some((one) => one === undefined) ? undefined : args.join(' ');
  if (name === 'basename') return a === undefined ? undefined : posix.basename(a, b);
  if (name === 'pwd') return '.';
  if (name === 'find' && a !== undefined) {
    const file = args[args.findIndex((one) => one === '-name') + 1];
    return args.includes('-name') && file !== undefined ? `${a}/**/${file}` : undefined;
  }
  return undefined;
}

function substitution(script: string, names: Names, depth: number): string | undefined {
  try {
    const [only, ...more] = parseShell(script, '-');
    return only?.kind === 'command' && more.length === 0 ? output(only, names, depth) : undefined;
  } catch {
    return undefined; // only a run knows
  }
}

/** What `$` begins at a position, and the position behind it. */
function dollar(text: string, at: number, names: Names, depth: number): { value: string | undefined; end: number } {
  if (text[at + 1] === '(') {
    const end = closing(text, at + 1, '(', ')');
    return { value: substitution(text.slice(at + 2, end - 1), names, depth), end };
  }
  if (text[at + 1] === '{') {
    const end = closing(text, at + 1, '{', '}');
    return { value: parameter(text.slice(at + 2, end - 1), names, depth), end };
  }
  const [name = ''] = /^(?:[A-Za-z_]\w*|\d|[@*])/.exec(text.slice(at + 1, at + 80)) ?? [];
  return name === '' ? { value: '$', end: at + 1 } : { value: names.values.get(name), end: at + 1 + name.length };
}

function expand(word: string, names: Names, nested: number): string | undefined {
  const depth = nested + 1;
  if (depth > MAX_NESTED) return undefined;
  let value: string | undefined = '';
  let quote = '';
  for (let at = 0; at < word.length && value !== undefined;) {
    const char = word[at] ?? '';
    let part: string | undefined = char;
    let end = at + 1;
    if (quote === "'") {
      if (char === "'") [quote, part] = ['', ''];
    } else if (char === '\\') {
      part = quote === '' || /["$`\\\n]/.test(word[at + 1] ?? '') ? (word[at + 1] ?? '').replace('\n', '') : word.slice(at, at + 2);
      end = at + 2;
    } else if (char === '"' || (char === "'" && quote === '')) {
      quote = char === quote ? '' : char;
      part = '';
    } else if (char === '`') part = undefined;
    else if (char === '$') ({ value: part, end } = dollar(word, at, names, depth));
    value = part === undefined || value.length > MAX_LENGTH ? undefined : value + part;
    at = end;
  }
  return value;
}

/** A word with its quotes and variables expanded; undefined if only a run knows it. */
export const expandWord = (word: string, names: Names): string | undefined => expand(word, names, 0);

/** True if a text matches a pattern of the shell with `*` and `?`. Its time grows with the product of both lengths at most. */
function matchesPattern(text: string, pattern: string): boolean {
  let [at, place, star, from] = [0, 0, -1, 0];
  while (at < text.length) {
    if (pattern[place] === '*') [star, from, place] = [place, at, place + 1];
    else if (pattern[place] === '?' || pattern[place] === text[at]) [at, place] = [at + 1, place + 1];
    else if (star === -1) return false;
    else [from, at, place] = [from + 1, from + 1, star + 1];
  }
  return /^\**$/.test(pattern.slice(place));
}

/** Words of a condition; longer ones are hostile. */
const MAX_WORDS = 50;

/** The value of `[[ … ]]` or `[ … ]`; undefined if only a run knows it. */
export function isTrue(words: readonly (string | undefined)[]): boolean | undefined {
  const inner = words.slice(1).filter((word) => word !== ']]' && word !== ']');
  if (inner.length > MAX_WORDS) return undefined;
  for (const [operator, decided] of [
    ['||', true],
    ['&&', false],
  ] as const) {
    const at = inner.indexOf(operator);
    if (at === -1) continue;
    const parts = new Set([inner.slice(0, at), inner.slice(at + 1)].map((part) => isTrue(['[[', ...part])));
    return parts.has(decided) ? decided : parts.has(undefined) ? undefined : !decided;
  }
  if (inner[0] === '!') {
    const value = isTrue(['[[', ...inner.slice(1)]);
    return value === undefined ? undefined : !value;
  }
  const [a, operator, b] = inner;
  if (inner.length === 1) return a === undefined ? undefined : a !== '';
  if (inner.length === 2) {
    if (operator === undefined) return undefined;
    return a === '-n' ? operator !== '' : a === '-z' ? operator === '' : undefined;
  }
  if (inner.length !== 3 || a === undefined || b === undefined) return undefined;
  if (operator === '=' || operator === '==') return matchesPattern(a, b);
  return operator === '!=' ? !matchesPattern(a, b) : undefined;
}
