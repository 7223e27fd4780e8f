import { spawnSync } from 'node:child_process';
import { chmod, lstat, mkdir, mkdtemp, readFile, readlink, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { indexPackages } from '../src/debian/package-index.ts';
import { stage } from '../src/image/stage.ts';
import { normalise, readTree } from '../src/image/tree.ts';
import { copyTree, filesBelow, insideTree, walk } from '../src/util/walk.ts';

let dir: string;
const at = (...parts: string[]): string => join(dir, ...parts);
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'walk-test-'));
  await mkdir(at('outside/more'), { recursive: true });
  await writeFile(at('outside/more/secret'), 'outside');
  await mkdir(at('tree/a/b'), { recursive: true });
  await writeFile(at('tree/a/b/file'), 'inside');
  await symlink('..', at('tree/a/loop'));
  await symlink(at('outside'), at('tree/out'));
  await symlink('a/b/file', at('tree/link'));
  await symlink('nothing', at('tree/broken'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const fifo = (path: string): void => expect(spawnSync('mkfifo', [path]).status).toBe(0);

test('a walk follows no link: not out of the folder, and not in circles', async () => {
  expect((await walk(at('tree'))).map(({ path, type }) => `${type} ${path}`)).toEqual([
    'dir a',
    'dir a/b',
    'file a/b/file',
    'link a/loop',
    'link broken',
    'link link',
    'link out',
  ]);
  await expect(walk(at('nothing'))).rejects.toThrow(/ENOENT/);
});

test('files are refused where one would be read for ever', async () => {
  expect((await filesBelow(at('tree'))).map(({ path }) => path)).toEqual(['a/b/file', 'a/loop', 'broken', 'link', 'out']);
  fifo(at('tree/a/pipe'));
  await expect(filesBelow(at('tree'))).rejects.toThrow("'a/pipe' is not a file, folder or link");
});

test('a copy has modes and links as they are, and nothing of what links lead to', async () => {
  await chmod(at('tree/a/b/file'), 0o755);
  await chmod(at('tree/a'), 0o555);
  await copyTree(at('tree'), at('new/copy'));
  await chmod(at('tree/a'), 0o755);
  expect((await walk(at('new/copy'))).map(({ path }) => path)).toEqual((await walk(at('tree'))).map(({ path }) => path));
  expect(await readlink(at('new/copy/out'))).toBe(at('outside'));
  expect(await readlink(at('new/copy/link'))).toBe('a/b/file');
  expect(await readFile(at('new/copy/link'), 'utf8')).toBe('inside');
  expect((await stat(at('new/copy/a/b/file'))).mode & 0o777).toBe(0o755);
  expect((await stat(at('new/copy/a'))).mode & 0o777).toBe(0o555);
  await chmod(at('new/copy/a'), 0o755);
  fifo(at('tree/pipe'));
  await expect(copyTree(at('tree'), at('again'))).rejects.toThrow("'pipe' is not a file, folder or link");
});

test('a path in a tree is where its links lead, unless that is outside', async () => {
  expect(await insideTree(at('tree'), 'link')).toBe(at('tree/a/b/file'));
  expect(await insideTree(at('tree'), 'a/loop/a')).toBe(at('tree/a'));
  for (const path of ['out/more/secret', '../outside', 'broken']) expect(await insideTree(at('tree'), path), path).toBeUndefined();
});

test('steps of a build follow no links of what they are given, and end at a FIFO', async () => {
  await utimes(at('outside/more/secret'), 1000, 1000);
  const install = [{ from: '**', to: 'usr/' }];
  await stage([{ component: 'x', dir: at('tree'), install }], at('staged'));
  await normalise(at('staged'));
  const tree = await readTree(at('staged'), new Map());
  expect(tree.entries.map(({ path, type }) => `${type} ${path}`)).toContain('link usr/out');
  expect(tree.entries.some(({ path }) => path.includes('secret'))).toBe(false);
  expect((await lstat(at('outside/more/secret'))).mtimeMs).toBe(1_000_000);
  expect([...(await indexPackages([{ name: 'x', dir: at('tree') }])).keys()].toSorted()).toEqual([
    'a/b/file',
    'a/loop',
    'broken',
    'link',
    'out',
  ]);
  fifo(at('tree/a/pipe'));
  await expect(stage([{ component: 'x', dir: at('tree'), install }], at('again'))).rejects.toThrow(/not a file, folder or link/);
  await expect(indexPackages([{ name: 'x', dir: at('tree') }])).rejects.toThrow(/not a file, folder or link/);
});

test('nothing in the repository walks a folder in another way', async () => {
  const root = resolve(import.meta.dirname, '../../..');
  const sources = (await Promise.all(['packages', 'scripts'].map((folder) => walk(join(root, folder))))).flat();
  const code = sources.filter(
    ({ path, type }) => type === 'file' && path.endsWith('.ts') && !/(?:^|\/)(?:node_modules|test|dist)\//.test(path),
  );
  expect(code.length).toBeGreaterThan(200);
  const found: string[] = [];
  for (const { full } of code) {
    const text = await readFile(full, 'utf8');
    // With file types readdir follows no link either; without, and in cp without verbatimSymlinks, it does.
    for (const [call] of text.matchAll(/\b(?:readdir|readdirSync|cp|cpSync)\((?:[^()]|\([^()]*\))*recursive: true[^)]*\)/g))
      if (!/withFileTypes: true|verbatimSymlinks: true/.test(call)) found.push(`${full.slice(root.length + 1)}: ${call}`);
  }
  expect(found).toEqual([]);
});
