import { describe, expect, test } from 'vitest';
import { lexer, type Tokens } from 'marked';
import {
  UserError,
  codeBlock,
  endOf,
  html,
  inlineCode,
  jsonText,
  markdownText,
  oneLine,
  plainText,
  readRecord,
  record,
  shownText,
  withoutCommands,
} from '@flatcar/core/engine';
import { explanation } from '../src/output/explanation.ts';
import { table } from '../src/output/terminal.ts';

describe('text of others', () => {
  test.each([
    ['colours', '\u001B[1;31merror\u001B[0m', 'error'],
    ['a title of the terminal', '\u001B]0;owned\u0007x', 'x'],
    ['a link of the terminal', '\u001B]8;;https://evil\u001B\\x\u001B]8;;\u001B\\', 'x'],
    ['an unfinished sequence', 'x\u001B[', 'x'],
    ['the C1 form', '\u009B2Jx', 'x'],
    ['a bell, a backspace and NUL', 'a\u0007b\u0008c\0', 'abc'],
    ['carriage returns', 'one\rtwo\r\nthree', 'one\ntwo\nthree'],
    ['what reorders text', 'a\u202Eb\u2066c\u200Bd', 'abcd'],
    ['half of a character', 'x\uD800', 'x\uFFFD'],
    ['a title in its C1 form', 'a\u009D0;t\u009Cb', 'ab'],
    ['letters without ink and tags', 'a\u3164b\u115F\u{E0041}c\u180Ed', 'abcd'],
    ['a string without an end, which hides what follows', 'a\u001B]0;b\nc', 'a0;b\nc'],
    ['a device control string', 'a\u001BPq#0\u001B\\b', 'ab'],
  ])('has no %s', (_, text, plain) => expect(plainText(text)).toBe(plain));

  test('in one line is as long as it may be', () => {
    expect(oneLine('a\n\n  b\tc')).toBe('a b c');
    expect(oneLine('x'.repeat(300), 10)).toBe(`${'x'.repeat(9)}…`);
    expect(oneLine('😀'.repeat(10), 4)).toBe('😀…');
  });

  // https://github.com/actions/runner, ActionCommand.cs: TryParseV2 trims and looks for `::` at the start, TryParse for `##[` anywhere.
  const isCommand = (line: string): boolean => line.replace(/^[\s\u0085]+/, '').startsWith('::') || line.includes('##[');
  test.each([
    '::error file=x::y',
    '  ::add-mask::a',
    '\t::stop-commands::x',
    'ok ##[group]x',
    ':::error::',
    'a\n::set-output name=x::y\nb',
    '\u00A0::error::x',
    '\u0085::error::x',
  ])('is no command to the runner: %j', (text) => {
    expect(withoutCommands(text).split('\n').some(isCommand)).toBe(false);
  });
  test('and stays as it is where it is none', () => expect(withoutCommands('std::vector a::b ## x')).toBe('std::vector a::b ## x'));

  test('keeps its colours on a terminal, and nothing else', () => {
    expect(shownText('\u001B[31mred\u001B[39m \u001B[2J\u001B]0;x\u0007\r::error::x', {})).toBe('\u001B[31mred\u001B[39m \n::error::x');
    expect(shownText('\u001B[8mhidden\u001B[30;40mblack on black\u001B[5m', {})).toBe('hiddenblack on black');
    expect(shownText('  ::error::x', { GITHUB_ACTIONS: 'true' })).toBe('  : :error::x');
    expect(shownText('\u001B[31m::error::x', { GITHUB_ACTIONS: 'true' }).split('\n').some(isCommand)).toBe(false);
  });

  test('in an error is what it is elsewhere', () => {
    const shown = explanation(new UserError('a\u001B]0;t\u0007\n::error::b', { where: 'x\u001B[2J', next: 'y\rz' }));
    for (const one of ['\u001B]', '\u001B[2J', '\u0007', '\r']) expect(shown).not.toContain(one);
  });

  test('in an error has no line that passes for one of ours', () => {
    const shown = explanation(new UserError("'a\n  do: curl evil | sh' is not a name", { where: 'b\n  do: x', next: 'c\nerror: d' }));
    expect(shown.split('\n')).toEqual([
      expect.stringMatching(/error:.* 'a$/),
      "  |   do: curl evil | sh' is not a name",
      String.raw`  at: b\n  do: x`,
      String.raw`  do: c\nerror: d`,
    ]);
    expect(explanation(new UserError('x', { where: '', next: '' }))).not.toMatch(/at:|do:/);
  });

  test('in a table makes neither a row nor a column', () => {
    const text = table([
      ['name', 'state'],
      ['a\nrestic   fine', 'b\u001B[2J\u202E'],
      ['\u001B[1Alonger name', 'c'],
    ]);
    expect(text.split('\n').slice(1)).toEqual([String.raw`a\nrestic   fine  b`, 'longer name       c']);
  });

  test('in JSON is the same value, and nothing that a terminal or the runner acts on', () => {
    const value = { 'k\u202E': 'a\u009B2J\u001B[2J\u007F\n::error::x ##[group]\u{E0041}\u2028', list: ['::error::', '##['] };
    for (const indent of [0, 2]) {
      const json = jsonText(value, indent);
      expect(JSON.parse(json)).toEqual(value);
      expect(json.replaceAll('\n', '')).toMatch(/^[ -~]+$/);
      expect(json.split('\n').some(isCommand)).toBe(false);
    }
  });

  test.each([
    '[x](https://evil)',
    '<img src=x>',
    '**x**',
    'a | b',
    '`x`',
    '~~x~~',
    '![x](y)',
    'see www.evil.org',
    '\\',
    'a\n# b',
    '<!-- x -->',
  ])('is plain text in Markdown: %j', (text) => {
    const tokens = lexer(markdownText(text));
    expect(tokens).toHaveLength(1);
    const [paragraph] = tokens as unknown as [Tokens.Paragraph];
    expect(new Set(paragraph.tokens.map(({ type }) => type)).difference(new Set(['text', 'escape'])).size).toBe(0);
    expect(paragraph.tokens.map((one) => (one as { text: string }).text).join('')).toBe(oneLine(text));
  });

  test('is cut at its start', () => {
    expect(endOf('short', 10)).toBe('short');
    const cut = endOf(`${'a'.repeat(5000)}the end`, 100);
    expect(cut.length).toBeLessThanOrEqual(100);
    expect(cut).toMatch(/^… \d+ characters before this are left out\na+the end$/);
  });

  test.each(['```', '````\n# x\n````', '@octocat', '<img src=x>', '[x](https://evil)', '`'.repeat(8), 'x\n~~~\n'])(
    'is one block of code in Markdown: %j',
    (text) => {
      const tokens = lexer(codeBlock(text));
      expect(tokens.map(({ type }) => type)).toEqual(['code']);
      expect((tokens[0] as Tokens.Code).text).toBe(text.trimEnd());
    },
  );
  test.each(['x\n'.repeat(9000), '`'.repeat(9000), `${'`'.repeat(8)}\n`.repeat(900)])(
    'a block of code is no longer than it may be',
    (text) => {
      expect(codeBlock(text, 1000).length).toBeLessThanOrEqual(1000);
      expect(lexer(codeBlock(text, 1000)).map(({ type }) => type)).toEqual(['code']);
    },
  );

  test.each(['`x`', 'a`b', '**x**', '@octocat', '<b>', '#12', '``'])('is one word of code in Markdown: %j', (text) => {
    const [paragraph] = lexer(inlineCode(text)) as unknown as [Tokens.Paragraph];
    expect(paragraph.tokens.map(({ type, ...rest }) => [type, (rest as { text?: string }).text])).toEqual([['codespan', text]]);
  });

  test('is text in HTML', () =>
    expect(html(`<a href="x" title='y'>&\u001B[1m`)).toBe('&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;'));
});

describe('a record in Markdown', () => {
  test('is read as it was written, and ends its comment nowhere else', () => {
    const value = { v: 1, what: '--> <script> --', n: [1, 2] };
    const line = record('update', value);
    expect(line.slice(4, -3)).not.toMatch(/--|[<>]/);
    expect(readRecord('update', `text\r\n\r\n${line}\r\n`)).toEqual(value);
    expect(readRecord('other', line)).toBeUndefined();
  });
  test('only the last line counts: what stands before may be of others', () => {
    expect(readRecord('x', `${record('x', { n: 1 })}\n${record('x', { n: 2 })}`)).toEqual({ n: 2 });
    expect(readRecord('x', `${record('x', { n: 1 })}\n\`\`\``)).toBeUndefined();
  });
  test.each(['', '<!-- x {} ', 'a <!-- x {"n":1} -->', '<!-- x {n} -->', `<!-- x {"n":"${'x'.repeat(7000)}"} -->`])(
    'anything else is none: %s',
    (text) => expect(readRecord('x', text)).toBeUndefined(),
  );
});
