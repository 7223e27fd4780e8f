// Files in JSON that people edit: whatever they hold, the error has file and line, and is not a crash.
import { expect, test } from 'vitest';
import * as v from 'valibot';
import { UserError, UserErrors } from '../src/util/errors.ts';
import { lineOfPath, parseJson } from '../src/util/json.ts';
import { readPins } from '../src/definition/pins.ts';

const thrown = (run: () => unknown): UserError => {
  try {
    run();
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
};

test.each([
  ['null', 'invalid pins.json: expected an object, got null', 1],
  ['"x"', 'invalid pins.json: expected an object, got a string', 1],
  ['[]', 'invalid pins.json: expected an object, got a list', 1],
  ['[{"1.0": {}}]', 'invalid pins.json: expected an object, got a list', 1],
  ['7', 'invalid pins.json: expected an object, got a number', 1],
  ['true', 'invalid pins.json: expected an object, got a boolean', 1],
  ['{\n  "$schema": 1\n}', 'invalid pins.json: $schema: expected the URL of a schema', 2],
  ['{\n  "1.0": null\n}', 'invalid pins.json: 1.0: Invalid type: Expected Object but received null', 2],
  ['{\n\n  "v1.0": { "licenses": {}, "bytes": {} }\n}', 'invalid pins.json: v1.0: must be a plain version such as 1.36.4', 3],
  ['{\n  "1.0": {\n    "licenses": {},\n    "byte": {},\n    "bytes": {}\n  }\n}', 'invalid pins.json: 1.0.byte: Invalid key', 4],
  ['{\n  "1.0": {\n    "licenses": {}\n  }\n}', 'invalid pins.json: 1.0.bytes: Invalid key', 2],
  ['{\n  "1.0": {\n    "packaging": "x",\n    "licenses": {}, "bytes": {}\n  }\n}', 'invalid pins.json: 1.0.packaging: must be 64', 3],
  ['', 'pins.json is not JSON: Unexpected end', 1],
  ['{\n  "1.0": {,\n}', 'pins.json is not JSON:', 2],
  ['{\n  "1.0": {\n', 'pins.json is not JSON:', 2],
])('%j in place of a lock is told with its line', (text, message, line) => {
  const error = thrown(() => readPins(text, 'pins.json'));
  expect(error.message).toContain(message);
  expect(error).toMatchObject({ where: `pins.json:${line}`, next: expect.stringContaining('flatcar-ext pin') });
});

test('an empty lock and one with the address of a schema are locks', () => {
  expect(readPins('{}', 'pins.json')).toEqual({});
  expect(readPins('{"$schema": "https://example.org/pins.json"}', 'pins.json')).toEqual({});
});

test('all that is wrong is told at once', () => {
  const error = thrown(() =>
    parseJson(v.object({ a: v.number(), b: v.number() }), '{\n "a": "",\n "b": ""\n}', { what: 'x', where: 'x.json' }),
  );
  expect(error).toBeInstanceOf(UserErrors);
  expect((error as UserErrors).errors.map(({ where }) => where)).toEqual(['x.json:2', 'x.json:3']);
});

test('a place is found by keys and indexes, whatever the texts hold', () => {
  const text = JSON.stringify({ a: ['}', { b: '{"c": [' }, { c: 1, 'd"e': [[1], [2, 3]] }], c: { a: 'c' } }, undefined, 1);
  const line = (...path: (string | number)[]): string => text.split('\n')[lineOfPath(text, path) - 1]?.trim() ?? '';
  expect(line('a', 1, 'b')).toContain('"b": ');
  expect(line('a', 2, 'c')).toBe('"c": 1,');
  expect(line('a', 2, 'd"e', 1, 1)).toBe('3');
  expect(line('c', 'a')).toBe('"a": "c"');
  expect(line('c', 'nothing', 'a')).toBe('"c": {');
  expect(line('nothing')).toBe('{');
});
