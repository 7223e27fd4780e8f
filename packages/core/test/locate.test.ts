import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadDefinition } from '../src/extension.ts';
import { lineOf, lineOfKeys, placeOf } from '../src/locate.ts';
import { readPins } from '../src/pins.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'locate-'));
  await writeFile(
    join(dir, 'extension.ts'),
    "export default x({\n  name: 'tool',\n  components: () => [\n    binary('tool', v),\n    binary('other', v),\n  ],\n  waive: { size: 'big' },\n});\n",
  );
  await mkdir(join(dir, 'files/usr/lib/systemd/system'), { recursive: true });
  await writeFile(join(dir, 'files/usr/lib/systemd/system/tool.service'), '[Service]\nUser=nobody-here\nExecStart=/usr/sbin/tool\n');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const owners = new Map([
  ['usr/bin/other', 'other'],
  ['usr/lib/systemd/system/tool.service', 'tool-files'],
]);
const components = [
  { dir: '', component: { name: 'tool-files', version: '1', origins: [{ kind: 'files' as const, dir: 'files' }], places: [] } },
];
const place = (finding: { rule: string; what: string; path?: string }): Promise<string> =>
  placeOf(
    finding,
    dir,
    components.map((one) => ({ ...one, dir })),
    owners,
  ).then((where) => where.replace(`${dir}/`, ''));

describe('where a finding can be mended', () => {
  test('in the shipped file, at the line that it is about', async () => {
    const path = 'usr/lib/systemd/system/tool.service';
    expect(await place({ rule: 'exec-path', path, what: "ExecStart= runs '/usr/sbin/tool', which is not there" })).toBe(`files/${path}:3`);
    expect(await place({ rule: 'unit-user', path, what: 'User=nobody-here is created nowhere in the image' })).toBe(`files/${path}:2`);
  });
  test('in the definition, at the component that brings it', async () => {
    expect(await place({ rule: 'elf-arch', path: 'usr/bin/other', what: 'is for another architecture' })).toBe('extension.ts:5');
  });
  test('at the waiver', async () => {
    expect(await place({ rule: 'size', what: "the waiver of 'size' waives nothing" })).toBe('extension.ts:7');
  });
});

test('lines of JSON by keys, down to the innermost that is there', () => {
  const text = JSON.stringify({ a: { b: 1 }, c: { b: { d: 2 } } }, undefined, 2);
  expect(lineOfKeys(text, ['c', 'b', 'd'])).toBe(7);
  expect(lineOfKeys(text, ['c', 'nothing'])).toBe(5);
  expect(lineOf('x\ny\n', ['y'])).toBe(2);
});

test('what is wrong in pins.json is told with its line', () => {
  const text = JSON.stringify({ '1.0.0': { licenses: {}, bytes: { 'https://a': { sha256: 'zz', proof: 'p' } } } }, undefined, 2);
  expect(() => readPins(text, 'pins.json')).toThrow(/line 6: .*64 lowercase hex digits/);
  expect(() => readPins('{\n  "1.0.0": {\n', 'pins.json')).toThrow(/not JSON/);
});

test('a definition that throws is told with its file and line', async () => {
  await mkdir(join(dir, 'bad'), { recursive: true });
  await writeFile(join(dir, 'bad/extension.ts'), "\nthrow new Error('no');\n");
  await expect(loadDefinition(join(dir, 'bad'))).rejects.toMatchObject({ where: expect.stringMatching(/bad\/extension\.ts/) as unknown });
});
