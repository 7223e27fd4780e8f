// Go programs from a folder of this repository: what decides their bytes, and how they are compiled.
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { binary, go } from '../src/definition/builders.ts';
import { componentProblems } from '../src/definition/schema.ts';
import type { Component, PinnedComponent } from '../src/definition/types.ts';
import { hostArch, type Arch } from '../src/model/arch.ts';
import { describeOrigin, locatorOf, resolveComponents } from '../src/origins/resolve.ts';
import { openStore } from '../src/store/store.ts';
import { openSandbox } from '../src/tools/sandbox.ts';
import { installedRecords } from '../src/tools/tool-records.ts';
import { openToolchains } from '../src/tools/toolchains.ts';
import { openTools } from '../src/tools/tools.ts';
import { exec } from '../src/util/exec.ts';

const MODULE = 'example.org/repository/packages/tool';
const store = openStore();
const tools = openTools(store);
const toolchains = openToolchains(store);
const records = installedRecords(tools, toolchains);
const pin: PinnedComponent['pin'] = { revision: 0, coupled: {}, licenses: {}, bytes: {} };

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'go-folder-'));
  await mkdir(join(root, 'extensions/tool'), { recursive: true });
  await write('go.mod', `module ${MODULE}\n\ngo 1.24\n`);
  await write('go.sum', '');
  await write('internal/word/word.go', 'package word\n\nconst Word = "word"\n');
  await write(
    'cmd/tool/main.go',
    `package main\n\nimport (\n\t"os"\n\n\t"${MODULE}/internal/word"\n)\n\nfunc main() { os.Stdout.WriteString(word.Word) }\n`,
  );
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function write(path: string, text: string): Promise<void> {
  const file = join(root, 'packages/tool', path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, text);
}

const origin = go(MODULE, 'cmd/tool', { folder: '../../packages/tool' });
const component: Component = binary('tool', '2026.11.27', origin);
const pinned = (dir = root): PinnedComponent => ({ component, dir: join(dir, 'extensions/tool'), pin });
const digest = async (dir = root): Promise<string> =>
  (await describeOrigin(origin, { ...pinned(dir), arch: 'x86-64', records })).materials.map(({ sha256 }) => sha256).join();

async function build(arch: Arch, dir = root): Promise<string> {
  const context = { arch, store, tools, toolchains, records, report: () => undefined, sandbox: openSandbox(store, tools) };
  const [made] = await resolveComponents([pinned(dir)], context, 'upstream');
  return join(made?.result.dir ?? '', 'tool');
}

test('it needs no pin, and its material is the folder', async () => {
  expect(locatorOf(origin, component, 'arm64')).toBeUndefined();
  const { materials } = await describeOrigin(origin, { ...pinned(), arch: 'x86-64', records });
  expect(materials).toEqual([
    { locator: 'files:tool', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string, proof: 'in this repository' },
  ]);
});

test.each([
  ['internal/word/word.go', 'package word\n\nconst Word = "other"\n'],
  ['go.sum', 'example.org/a v1.0.0 h1:x\n'],
  ['go.mod', `module ${MODULE}\n\ngo 1.25\n`],
  ['internal/more/more.go', 'package more\n'],
])('an edit of %s changes the digest', async (path, text) => {
  const before = await digest();
  await write(path, text);
  expect(await digest()).not.toBe(before);
});

test.each([
  'internal/word/word_test.go',
  'internal/word/testdata/x.go',
  'test/helper/helper.go',
  'README.md',
  'node_modules/x/x.go',
  '.git/x.go',
])('%s is no input of a build', async (path) => {
  const before = await digest();
  await write(path, 'package broken {');
  expect(await digest()).toBe(before);
});

test('a folder without a module is reported', async () => {
  await rm(join(root, 'packages/tool/go.sum'));
  await expect(digest()).rejects.toThrow('the folder contains no Go module');
});

test('a definition names a folder relative to itself', () => {
  const problems = (folder: string) => componentProblems([binary('tool', '1', go(MODULE, 'cmd/tool', { folder }))]);
  expect(problems('../../packages/tool')).toEqual([]);
  for (const folder of ['/packages/tool', 'packages/tool', '']) expect(problems(folder)).toHaveLength(1);
});

test('it is compiled for both architectures, with the same bytes from another folder', async () => {
  await write('internal/word/word_test.go', 'package broken {');
  const file = await build(hostArch());
  expect(await exec(file, [])).toBe('word');
  const machineOf = async (path: string): Promise<number> => (await readFile(path)).readUInt16LE(18);
  // e_machine of elf(5): 62 is x86-64, 183 is AArch64.
  expect(await machineOf(await build('x86-64'))).toBe(62);
  expect(await machineOf(await build('arm64'))).toBe(183);

  const copy = join(root, 'elsewhere');
  for (const path of ['go.mod', 'go.sum', 'internal/word/word.go', 'cmd/tool/main.go']) {
    await mkdir(dirname(join(copy, 'packages/tool', path)), { recursive: true });
    await copyFile(join(root, 'packages/tool', path), join(copy, 'packages/tool', path));
  }
  await mkdir(join(copy, 'extensions/tool'), { recursive: true });
  const bytes = await readFile(file);
  expect(await digest(copy)).toBe(await digest());
  await rm(`${dirname(dirname(file))}.list`, { force: true }); // the store forgets the result
  const again = await build(hostArch(), copy);
  expect((await readFile(again)).equals(bytes)).toBe(true);
  expect(bytes.includes(root)).toBe(false);
}, 600_000);
