/*
 * Untrusted text (output of compilers, names in images, responses of servers) on its way to a terminal, a runner's log, Markdown or
 * HTML. All code that shows such text uses these functions; the cli does so for everything that commands print.
 */

/**
 * Sequences of a terminal (ECMA-48), in their 7-bit and 8-bit forms. A string (OSC, DCS and the like: titles, links) is removed as a whole only if it
 * ends in the same line: a string without an end must not hide the following text.
 */
const ESCAPE_SEQUENCE =
  // oxlint-disable-next-line no-control-regex -- the expression matches control characters
  /(?:\u001B\[|\u009B)[0-?]*[ -/]*[@-~]|(?:\u001B[\]PX^_]|[\u0090\u0098\u009D-\u009F])(?:[^\u0007\u001B\u009C\n]*(?:\u0007|\u001B\\|\u009C))?|\u001B[ -/]*[0-~]?/g;
/**
 * Control characters but tab and line end, and the characters that reorder or hide text (Trojan Source, CVE-2021-42574): Unicode's format characters,
 * its line separators, and letters that have no ink.
 */
const CONTROL = /[\p{Cf}\u2028\u2029\u115F\u1160\u3164\uFFA0\u{E0000}-\u{E0FFF}]|\u034F|[\u17B4\u17B5]|[\u180B-\u180F]|(?![\t\n])\p{Cc}/gu;

/** Text without escape sequences and control characters; line ends and tabs stay. A lone surrogate becomes U+FFFD. */
export function plainText(text: string): string {
  return text.toWellFormed().replaceAll(/\r\n?/g, '\n').replaceAll(ESCAPE_SEQUENCE, '').replaceAll(CONTROL, '');
}

/** Plain text in one line of at most `max` characters. */
export function oneLine(text: string, max = 200): string {
  const line = plainText(text).replaceAll(/\s+/g, ' ').trim();
  return line.length <= max
    ? line
    : `${line
        .slice(0, max - 1)
        .toWellFormed()
        .replace(/\uFFFD$/, '')}…`;
}

/**
 * Text in which GitHub's runner finds no commands. Commands are lines that begin with `::` after trimming, and `##[`
 * anywhere in a line (actions/runner, ActionCommand.cs).
 */
export function withoutCommands(text: string): string {
  return text.replaceAll(/^([\s\u0085]*):(?=:)/gm, '$1: ').replaceAll('##[', '## [');
}

/**
 * Text of this program that contains untrusted text, for a terminal or a log: keeps the colors of `paint` and removes everything else that a
 * terminal acts on; in GitHub Actions no line is a command to the runner.
 */
export function shownText(text: string, env: NodeJS.ProcessEnv = process.env): string {
  // Split with a group: matches are at odd indexes. Bold, red, green and yellow, and their ends: none of them hides text.
  // oxlint-disable-next-line no-control-regex -- colors
  const parts = text.split(/(\u001B\[(?:1|22|31|32|33|39)m)/);
  const shown = parts.map((part, index) => (index % 2 === 1 ? part : plainText(part))).join('');
  return env['GITHUB_ACTIONS'] === 'true' ? withoutCommands(shown) : shown;
}

/** An untrusted name or value within a line or a cell of a table: shows a line end as `\\n`. */
export function inLine(text: string): string {
  return text.replaceAll(/\r\n?|[\n\v\f\u0085\u2028\u2029]/g, String.raw`\n`).replaceAll('\t', ' ');
}

/**
 * A value as JSON that is safe on a terminal and in a log, and parses to the same value: JSON.stringify does not escape the C1 controls and
 * characters that reorder text, and the runner treats `##[` anywhere in a line as a command.
 */
export function jsonText(value: unknown, indent?: number): string {
  const escaped = (found: string): string =>
    Array.from({ length: found.length }, (_, at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, '0')}`).join('');
  // A line end can only be between values: within a string it is escaped already.
  return JSON.stringify(value, undefined, indent)
    .replaceAll(CONTROL, escaped)
    .replaceAll('##[', String.raw`#\u0023[`);
}

/** The beginning and the end of a text that is longer than `max` characters, with a note about the omitted part. */
export function shortened(text: string, max: number): string {
  if (text.length <= max) return text;
  const half = Math.floor(max / 2);
  const [head, tail] = [text.slice(0, half), text.slice(-half)].map((part) => part.toWellFormed().replaceAll(/^\uFFFD|\uFFFD$/g, ''));
  return `${head ?? ''} … ${text.length - 2 * half} characters are left out … ${tail ?? ''}`;
}

/** The end of a text, at most `max` characters, with a note about the omitted part. */
export function endOf(text: string, max: number): string {
  if (text.length <= max) return text;
  const note = (left: number): string => `… ${left} characters before this are left out\n`;
  const room = Math.max(max - note(text.length).length, 0);
  return `${note(text.length - room)}${
    room === 0
      ? ''
      : text
          .slice(-room)
          .toWellFormed()
          .replace(/^\uFFFD/, '')
  }`;
}

/** Untrusted words as plain text in Markdown: no link, no HTML, no emphasis, no code. */
export function markdownText(text: string): string {
  // GFM turns bare addresses into links.
  return oneLine(text, 1000).replaceAll(/[\\`*[\]<>~]|:(?=\/\/)|(?<=\bwww)\./gi, String.raw`\$&`);
}

const longestRun = (text: string): number => Math.max(0, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));

/**
 * A block of code in Markdown, whose text cannot end the block or mention anybody; at most `max` characters, the end of a longer text.
 * A row of backticks is cut to eight, because the fence must be longer.
 */
export function codeBlock(text: string, max = Infinity): string {
  const plain = plainText(text).trimEnd().replaceAll(/`{9,}/g, '`'.repeat(8));
  const fence = '`'.repeat(Math.max(3, longestRun(plain) + 1));
  const around = 2 * fence.length + 2;
  return `${fence}\n${endOf(plain, Math.max(max - around, 0))}\n${fence}`;
}

/** A word of code in Markdown, without formatting, links and mentions, whatever the text is. */
export function inlineCode(text: string): string {
  const line = oneLine(text, 500).replaceAll(/`{9,}/g, '`'.repeat(8));
  const fence = '`'.repeat(longestRun(line) + 1);
  return line === '' ? '' : /^`|`$/.test(line) ? `${fence} ${line} ${fence}` : `${fence}${line}${fence}`;
}

/** Text for an element or an attribute of HTML. */
export function html(text: string): string {
  const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return plainText(text).replaceAll(/[&<>"']/g, (found) => entities[found] ?? '');
}

/** A comment line in Markdown that programs read; no value can end the comment. */
export function record(name: string, value: unknown): string {
  return `<!-- ${name} ${JSON.stringify(value).replaceAll(/[<>-]/g, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`)} -->`;
}

/**
 * The value of a `record` that is the last line of a text; the text before may be untrusted. Undefined without such a line. The caller checks
 * its shape.
 */
export function readRecord(name: string, text: string): unknown {
  const [, found, json = ''] = /^<!-- ([a-z-]+) (\{.*\}) -->$/.exec(text.slice(-6000).trimEnd().split('\n').at(-1) ?? '') ?? [];
  if (found !== name) return undefined;
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}
