import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadDefinition } from '../src/definition/load.ts';
import { lineOfPath } from '../src/util/json.ts';
import { lineOf } from '../src/util/text-position.ts';
import { placeOf } from '../src/lint/locate.ts';
import { readPins } from '../src/definition/pins.ts';

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
  { dir: '', component: { name: 'tool-files', version: '1', origins: [{ kind: 'files' as const, dir: 'files' }], install: [] } },
];
const place = (finding: { rule: string; what: string; path?: string; subject?: string }): Promise<string> =>
  placeOf(
    finding,
    dir,
    components.map((one) => ({ ...one, dir })),
    owners,
  ).then((where) => where.replace(`${dir}/`, ''));

describe('where a finding can be fixed', () => {
  test('in the shipped file, at the line that it is about', async () => {
    const path = 'usr/lib/systemd/system/tool.service';
    expect(await place({ rule: 'exec-path', path, what: "ExecStart= runs '/usr/sbin/tool', which is not there" })).toBe(`files/${path}:3`);
    expect(await place({ rule: 'unit-user', path, what: 'User=nobody-here is not declared in the image' })).toBe(`files/${path}:2`);
  });
  test('in the definition, at the component that installs the file', async () => {
    expect(await place({ rule: 'elf-arch', path: 'usr/bin/other', what: 'is for another architecture' })).toBe('extension.ts:5');
  });
  test('in the file of a component that several extensions share, at its name', async () => {
    const shared = join(dir, 'shared');
    const lock = join(shared, 'other');
    await mkdir(lock, { recursive: true });
    await writeFile(join(lock, 'a.ts'), "// 'other' is elsewhere\nexport const words = ['other'];\n");
    await writeFile(join(lock, 'b.ts'), "export const other = (v) => ({\n  ...packaged(\n    'other', v),\n});\n");
    const component = { name: 'other', version: '1', origins: [], install: [], lock };
    const finding = { rule: 'elf-arch', path: 'usr/bin/other', what: 'is for another architecture' };
    const at = (name: string, path: string): Promise<string> =>
      placeOf(finding, dir, [{ dir: path, component: { ...component, name, lock: path } }], new Map([['usr/bin/other', name]]));
    expect(await at('other', lock)).toBe(join(lock, 'b.ts:2'));
    // Without a source with its name, the extension's own definition.
    expect(await at('others', lock)).toBe(join(dir, 'extension.ts:3'));
  });
  test('at the waiver', async () => {
    expect(await place({ rule: 'unused-waiver', what: 'the words do not matter', subject: 'size' })).toBe('extension.ts:7');
  });
  test('a folder: at the first file in it, whoever owns that', async () => {
    await mkdir(join(dir, 'files/usr/sbin/deep'), { recursive: true });
    await writeFile(join(dir, 'files/usr/sbin/deep/x'), 'text');
    expect(await place({ rule: 'usr-sbin', path: 'usr/sbin', what: "'usr/sbin' replaces a link of the host" })).toBe(
      'files/usr/sbin/deep/x:1',
    );
    const owned = new Map([['usr/sbin/deep/x', 'tool-files']]);
    expect(
      await placeOf(
        { rule: 'usr-sbin', path: 'usr/sbin', what: '' },
        dir,
        components.map((one) => ({ ...one, dir })),
        owned,
      ),
    ).toBe(join(dir, 'files/usr/sbin/deep/x:1'));
  });
  test('an empty folder: itself', async () => {
    await mkdir(join(dir, 'files/usr/empty'), { recursive: true });
    expect(await place({ rule: 'usr-local', path: 'usr/empty', what: '' })).toBe('files/usr/empty:1');
  });
  test.each([
    ['to a folder', '.'],
    ['into nowhere', '/nonexistent/x'],
    ['to itself', 'loop'],
  ])('a link %s: the link', async (_, target) => {
    await rm(join(dir, 'files/usr/loop'), { force: true });
    await symlink(target, join(dir, 'files/usr/loop'));
    expect(await place({ rule: 'broken-link', path: 'usr/loop', what: `links to '${target}'` })).toBe('files/usr/loop:1');
  });
  test('a file of one architecture', async () => {
    const at = join(dir, 'by-arch/arm64/usr/bin');
    await mkdir(at, { recursive: true });
    await writeFile(join(at, 'only-arm'), 'x');
    const part = { name: 'own', version: '1', origins: [{ kind: 'files' as const, dir: 'by-arch/{arch}' }], install: [] };
    expect(await placeOf({ rule: 'setuid', path: 'usr/bin/only-arm', what: '' }, dir, [{ dir, component: part }], new Map())).toBe(
      join(at, 'only-arm:1'),
    );
  });
  test('below a file that is in the way: in the definition', async () => {
    expect(await place({ rule: 'exec-path', path: 'usr/lib/systemd/system/tool.service/x', what: '' })).toMatch(/^extension\.ts:\d+$/);
  });
  test('without a definition that can be read: its first line', async () => {
    expect(await placeOf({ rule: 'empty', what: 'the image holds no file' }, join(dir, 'gone'), [], new Map())).toBe(
      join(dir, 'gone/extension.ts:1'),
    );
  });
  test('keys in the middle of a line, in quotes, or after a comment that names them', async () => {
    const at = join(dir, 'keys');
    await mkdir(at, { recursive: true });
    const text = [
      '// requiredPaths: none, waive: none',
      "export default defineExtension({ name: 'x', summary: 'usr/bin/a', requiredPaths: [",
      "    'usr/bin/b', 'usr/bin/a'],",
      "  'replaces': ['usr/bin/a'], waive: {",
      "    'setuid:usr/bin/a': 'why' } });",
    ];
    await writeFile(join(at, 'extension.ts'), text.join('\n'));
    const line = (rule: string, about: { path?: string; subject?: string }): Promise<string> =>
      placeOf({ rule, what: '', ...about }, at, [], new Map()).then((where) => where.replace(`${at}/`, ''));
    expect(await line('required-path', { path: 'usr/bin/a' })).toBe('extension.ts:3');
    expect(await line('replaces-nothing', { path: 'usr/bin/a' })).toBe('extension.ts:4');
    expect(await line('unused-waiver', { subject: 'setuid:usr/bin/a' })).toBe('extension.ts:5');
  });
});

test('lines of JSON by keys, down to the innermost that is there', () => {
  const text = JSON.stringify({ a: { b: 1 }, c: { b: { d: 2 } } }, undefined, 2);
  expect(lineOfPath(text, ['c', 'b', 'd'])).toBe(7);
  expect(lineOfPath(text, ['c', 'nothing'])).toBe(5);
  expect(lineOf('x\ny\n', ['y'])).toBe(2);
});

test('problems of pins.json are reported with their lines', () => {
  const text = JSON.stringify(
    { '1.0.0': { licenses: {}, bytes: { 'https://a': { sha256: 'zz', proof: 'nothing published: as first downloaded' } } } },
    undefined,
    2,
  );
  expect(() => readPins(text, 'pins.json')).toThrow(
    expect.objectContaining({
      message: expect.stringMatching(/1\.0\.0\.bytes\.https:\/\/a\.sha256: .*64 lowercase hex/),
      where: 'pins.json:6',
    }),
  );
  expect(() => readPins('{\n  "1.0.0": {\n', 'pins.json')).toThrow(
    expect.objectContaining({ message: expect.stringContaining('pins.json is not JSON'), where: 'pins.json:2' }),
  );
});

test('a definition that throws is reported with its file and line', async () => {
  await mkdir(join(dir, 'bad'), { recursive: true });
  await writeFile(join(dir, 'bad/extension.ts'), "\nthrow new Error('no');\n");
  await expect(loadDefinition(join(dir, 'bad'))).rejects.toMatchObject({ where: expect.stringMatching(/bad\/extension\.ts/) as unknown });
});
