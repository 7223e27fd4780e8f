import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { loadExtension, type LoadedExtension } from '@flatcar/core/engine';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { extensionsTable, readmeText, rootReadmeText, writeReadme, type ImageSize } from '@flatcar/workspace/readme';
import { lintSource, fixSource } from '@flatcar/workspace/source-lint';

const CORE = pathToFileURL(join(import.meta.dirname, '../../core/src/engine.ts')).href;
const DEFINITION = `import { binary, defineExtension, upstream } from '${CORE}';

export default defineExtension({
  name: 'tool',
  summary: 'a tool | with a bar',
  versions: { kind: 'github', repo: 'example/tool', track: 'newest' },
  components: ({ version }) => [binary('tool', version, upstream('https://example.org/{version}/tool-{arch}'))],
  start: ['tool.service'],
});
`;
const bytes = (version: string): Record<string, object> =>
  Object.fromEntries(
    ['amd64', 'arm64'].map((arch) => [`https://example.org/${version}/tool-${arch}`, { sha256: 'a'.repeat(64), proof: 'sha256 file' }]),
  );
const pins = (...versions: readonly string[]): Record<string, object> =>
  Object.fromEntries(versions.map((version) => [version, { revision: 0, licenses: { tool: 'MIT' }, bytes: bytes(version) }]));

let dir: string;
const load = (): Promise<LoadedExtension> => loadExtension(dir);
const writePins = (value: object): Promise<void> => writeFile(join(dir, 'pins.json'), `${JSON.stringify(value, undefined, 2)}\n`);

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'tool-'));
  await writeFile(join(dir, 'extension.ts'), DEFINITION);
  await mkdir(join(dir, 'test'));
  await writeFile(join(dir, 'test/extension.test.ts'), '');
  await writePins(pins('1.2.3'));
  await mkdir(join(dir, 'files/usr/lib/systemd/system'), { recursive: true });
  await writeFile(join(dir, 'files/usr/lib/systemd/system/tool.service'), '[Service]\nExecStart=/usr/bin/tool\n', { mode: 0o644 });
});
afterEach(() => rm(dir, { recursive: true, force: true }));

test('a README is made from data: versions, proofs, units, Butane', async () => {
  const text = await readmeText(await load(), undefined);
  expect(text).toContain('# tool\n\nA tool | with a bar.\n');
  expect(text).toContain("| 1.2.3 | tool | 1.2.3 | MIT | upstream's file | upstream's file: sha256 file |");
  expect(text).toContain('| `tool.service` | yes |');
  expect(text).toContain('path: /opt/extensions/tool/tool.portable_1.2.3_x86-64.raw');
});

test('versions of an extension with files of its own only are listed, too', async () => {
  const own = DEFINITION.replace(/components: .*/, 'components: () => [],');
  await writeFile(join(dir, 'extension.ts'), own);
  await writePins({ '2026.11.27': { revision: 1, licenses: {}, bytes: {} } });
  expect(await readmeText(await load(), undefined)).toContain('| 2026.11.27-1 | files/ |  | Apache-2.0 | this repository |  |');
});

test('what it needs beside it is named, with a link', async () => {
  await writeFile(join(dir, 'extension.ts'), DEFINITION.replace('start:', "requires: ['docker'],\n  start:"));
  expect(await readmeText(await load(), undefined)).toContain('The image requires [docker](../docker/README.md), which');
});

test('what packages were checked by is told of them together', async () => {
  const packages = DEFINITION.replace('binary, defineExtension, upstream', 'debian, defineExtension, packaged').replace(
    /binary\(.*\)\]/,
    `packaged('tool', version, debian(['tool'], { programs: ['tool'] }))]`,
  );
  await writeFile(join(dir, 'extension.ts'), packages);
  const proof = 'Debian archive index, signed by the archive key';
  const lock = Object.fromEntries(
    ['tool_1_amd64', 'tool_1_arm64', 'libc6_2_amd64'].map((name) => [`debian:pool/main/t/${name}.deb`, { sha256: 'a'.repeat(64), proof }]),
  );
  await writePins({ '1.2.3': { revision: 0, licenses: { tool: 'MIT' }, bytes: lock } });
  expect(await readmeText(await load(), undefined)).toContain(`| Debian packages | Debian packages: ${proof} |`);
});

test('what people wrote stays, before and behind the generated part', async () => {
  const first = await readmeText(await load(), '# tool\n\nMy words.\n');
  const edited = `${first}\n## Notes\n\nMore of mine.\n`;
  await writePins(pins('1.2.4', '1.2.3'));
  const second = await readmeText(await load(), edited);
  expect(second).toMatch(/^# tool\n\nMy words\.\n/);
  expect(second).toMatch(/\n## Notes\n\nMore of mine\.\n$/);
  expect(second).toContain('| 1.2.4 | tool |');
  expect(await readmeText(await load(), second)).toBe(second);
});

test('what the tests of real use do is in the README, with the reason where one does not run on a root', async () => {
  const testing = pathToFileURL(join(import.meta.dirname, '../../testing/src/index.ts')).href;
  const declare = (does: string): string => `import { testRealUse } from '${testing}';
testRealUse(import.meta.dirname, { uses: [
  { does: '${does}', run: 'exit 1', gives: '' },
  { does: 'boots', run: 'exit 1', gives: '', except: { bare: 'needs an init' } },
] });
`;
  await writeFile(join(dir, 'test/extension.test.ts'), declare('reads a|b'));
  const text = await readmeText(await load(), undefined);
  expect(text).toContain(String.raw`| reads a\|b | yes | yes | yes |`);
  expect(text).toContain('| boots | needs an init | yes | yes |');
  expect(await readmeText(await load(), text), 'again in one process').toBe(text);
});

test('a README without tests of real use has no table of them', async () => {
  expect(await readmeText(await load(), undefined)).not.toContain('What is tested');
});

test('sizes stay as they were measured until they are measured again', async () => {
  const sizes = (size: number): ImageSize[] => [{ version: '1.2.3', target: 'portable', architecture: 'x86-64', size }];
  const measured = await readmeText(await load(), undefined, sizes(4 << 20));
  expect(await readmeText(await load(), measured)).toBe(measured);
  const again = await readmeText(await load(), measured, sizes(5 << 20));
  expect(again).toContain('5.0 MiB');
  expect(again).not.toContain('4.0 MiB');
});

test('half of the two lines is told, not guessed', async () => {
  const text = (await readmeText(await load(), undefined)).replace('<!-- end of the generated part -->', '');
  await expect(readmeText(await load(), text)).rejects.toThrow(/one of the two lines/);
});

test('the root README has a table for each group, by the first keyword of package.json', async () => {
  const file = join(dir, 'package.json');
  expect(await extensionsTable([dir])).toContain('### Other');
  await writeFile(file, '{ "keywords": ["networking"] }');
  expect(await extensionsTable([dir])).toContain('### Networking');
  expect(await extensionsTable([dir])).not.toContain('### Other');
  await writeFile(file, '{ "keywords": "networking" }');
  await expect(extensionsTable([dir])).rejects.toThrow(/keywords/);
  await rm(file);
});

test('the table of the root README comes from the tree', async () => {
  const table = await extensionsTable([dir]);
  expect(table).toContain(String.raw`| [tool](extensions/tool/README.md) | a tool \| with a bar | 1.2.3 |`);
  expect(await rootReadmeText(`before\n${table}\nafter\n`, [dir], 'README.md')).toBe(`before\n${table}\nafter\n`);
  await expect(rootReadmeText('nothing', [dir], 'README.md')).rejects.toThrow(/no place/);
});

test('lint of a folder names file and line, and mends what it can', async () => {
  await writePins({
    '1.2.3': {
      revision: 0,
      licenses: { tool: 'MIT', old: 'MIT' },
      bytes: { ...bytes('1.2.3'), 'https://example.org/old': { sha256: 'b'.repeat(64), proof: 'nothing published: as first downloaded' } },
    },
  });
  const unit = join(dir, 'files/usr/lib/systemd/system/tool.service');
  await writeFile(unit, '[Service]\nExecStart=/usr/bin/tool\n');
  const { chmod } = await import('node:fs/promises');
  await chmod(unit, 0o755);
  const findings = await lintSource(await load());
  expect(findings.map(({ rule }) => rule).toSorted()).toEqual([
    'file-mode',
    ...Array.from({ length: 8 }, () => 'package'),
    'packaging',
    'readme',
    'unused-pin',
    'unused-pin',
  ]);
  const lines = (await readFile(join(dir, 'pins.json'), 'utf8')).split('\n');
  const [, line] = /:(\d+)$/.exec(findings.find(({ what }) => what.includes('example.org/old'))?.where ?? '') ?? [];
  expect(lines[Number(line) - 1]).toContain('https://example.org/old');
  await fixSource(dir);
  expect(await lintSource(await load())).toEqual([]);
  expect((await stat(unit)).mode & 0o777).toBe(0o644);
});

test('a missing pin is an error where nothing else can be built, and never repaired by a guess', async () => {
  await writeReadme(dir);
  await writePins({ '1.2.3': { revision: 0, licenses: { tool: 'MIT' }, bytes: {} } });
  const missing = (await lintSource(await load())).filter(({ rule }) => rule === 'missing-pin');
  expect(missing.map(({ level, repair }) => [level, repair])).toEqual([
    ['error', undefined],
    ['error', undefined],
  ]);
});

test.each([
  ['{\n  "name": "tool",,\n}', 'package.json is not JSON', 2],
  ['[]', 'invalid package.json: expected an object, got a list', 1],
])('a package.json that is %j is told with its line', async (text, message, line) => {
  await writeFile(join(dir, 'package.json'), text);
  await expect(lintSource(await load())).rejects.toMatchObject({
    message: expect.stringContaining(message) as unknown,
    where: `${join(dir, 'package.json')}:${line}`,
  });
});
