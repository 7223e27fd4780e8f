// The reference of definitions and tests: whole, with types, defaults and an example for every key, and in step with what is checked.
import { resolve } from 'node:path';
import { marked } from 'marked';
import { expect, test } from 'vitest';
import { keysOf, readInterface, referenceText, SECTIONS } from '@flatcar/workspace/reference';

const repository = resolve(import.meta.dirname, '../../..');

test.each(SECTIONS.map((one) => [one.interface, one] as const))('every key of %s has a text and an example', async (_, section) => {
  const { keys } = await keysOf(section, repository);
  expect(keys.length).toBeGreaterThan(0);
  for (const { name, text, example } of keys) {
    if (name !== 'kind') expect(text, name).not.toBe('');
    expect(example, name).toBeDefined();
  }
});

test('the page has a row for each key, and its tables are tables', async () => {
  const text = await referenceText(repository);
  const tokens = marked.lexer(text);
  const tables = tokens.filter(({ type }) => type === 'table') as { rows: unknown[][]; header: unknown[] }[];
  const keys = await Promise.all(SECTIONS.map(async (one) => (await keysOf(one, repository)).keys.length));
  expect(tables.map(({ rows }) => rows.length)).toEqual(keys);
  for (const { rows } of tables) for (const row of rows) expect(row).toHaveLength(5);
  expect(text).toContain(
    "| `start` | `string[]` | Units that start as soon as the image is merged. | `[]` | `['node-exporter.service']` |",
  );
  expect(text).toContain("| `kind` | `'sysext' \\| 'confext'` |");
});

test('an interface is read with its comments, types over several lines and what it extends', () => {
  const source = `/** Not this one. */
export interface Other {
  readonly a: string;
}

/** What it is. */
export interface Thing extends Other {
  /**
   * First,
   * over two lines.
   * @default 'x'
   * @example 'y'
   */
  readonly first?: 'x' | 'y';
  readonly second: (one: {
    readonly a: string;
  }) => void;
  /** Third. @example 3 */
  readonly 'the-third': number;
}
`;
  expect(readInterface(source, 'Thing')).toEqual({
    text: 'What it is.',
    parents: 'Other',
    keys: [
      { name: 'first', isOptional: true, type: "'x' | 'y'", text: 'First, over two lines.', default: "'x'", example: "'y'" },
      { name: 'second', isOptional: false, type: '(one: { a: string; }) => void', text: '', default: undefined, example: undefined },
      { name: 'the-third', isOptional: false, type: 'number', text: 'Third.', default: undefined, example: '3' },
    ],
  });
  expect(() => readInterface(source, 'Nothing')).toThrow("there is no interface 'Nothing'");
});
