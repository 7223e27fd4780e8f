import { glob, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { LAYERS } from '../scripts/lint/layers.ts';

const REPOSITORY = resolve(import.meta.dirname, '..');

/** Folders in the map of docs/architecture.md. */
function mapOf(page: string): string[] {
  const [, map = ''] = page.split('\n## Map of folders\n');
  return [...map.matchAll(/^\| `([^`]+)` \|/gm)].map(([, folder = '']) => folder);
}

/** Folders with sources, below `packages/`. */
async function sourceFolders(repository: string): Promise<string[]> {
  const files = await Array.fromAsync(glob('*/src/**/*', { cwd: join(repository, 'packages'), withFileTypes: true }));
  const base = join(repository, 'packages', '/');
  const folders = files.filter((file) => file.isFile()).map(({ parentPath }) => parentPath.slice(base.length));
  return [...new Set(folders)].toSorted();
}

const page = await readFile(join(REPOSITORY, 'docs/architecture.md'), 'utf8');

test('the map of folders in docs/architecture.md is the tree of packages/*/src', async () => {
  const map = mapOf(page);
  expect(map.length).toBeGreaterThan(20);
  expect(map.toSorted()).toEqual(await sourceFolders(REPOSITORY));
});

test.for(['core/src/lint/rules', 'cli/src'])('without its line of %s the map differs from the tree', async (folder) => {
  const without = page.replace(new RegExp(`^\\| \`${folder}\` \\|.*\n`, 'm'), '');
  expect(without).not.toBe(page);
  expect(mapOf(without).toSorted()).not.toEqual(await sourceFolders(REPOSITORY));
});

test('files that docs/architecture.md names exist', async () => {
  const prose = page.split('\n## Map of folders\n')[0] ?? '';
  const named = [...prose.matchAll(/`((?:core|upstream|publish|workspace|cli|testing)\/src[\w./-]*)`/g)].map(([, path = '']) => path);
  expect(named.length).toBeGreaterThan(15);
  const missing: string[] = [];
  for (const path of new Set(named))
    if ((await Array.fromAsync(glob(path, { cwd: join(REPOSITORY, 'packages') }))).length === 0) missing.push(path);
  expect(missing).toEqual([]);
});

test('layers in docs/architecture.md are those that npm run lint checks', () => {
  const rows = [...page.matchAll(/^\| `(\w+)` \| (`.* ← .*) \|$/gm)];
  expect(rows.map(([, name]) => name)).toEqual(['core', 'publish', 'upstream', 'testing']);
  for (const [, name = '', text = ''] of rows) {
    const layers = text.split(' ← ').map((layer) => [...layer.matchAll(/`(\w+)`/g)].map(([, folder]) => folder));
    // Root files, and what only tests of this repository use, are left out on the page.
    const checked = LAYERS[name]?.map((layer) => layer.filter((folder) => folder !== '.' && folder !== 'github'));
    expect(layers, name).toEqual(checked?.filter((layer) => layer.length > 0));
  }
});
