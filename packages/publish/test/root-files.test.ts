// The catalogue page at the root of a tree, beside the signed index.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { initKeys, loadKeys, localDestination, mirror, openTree, publish, type PublishOptions } from '../src/index.ts';
import { trustOf } from './helpers/trust.ts';

let dir: string;
let options: PublishOptions;
const read = (tree: string, name = 'index.html'): Promise<string> => readFile(join(dir, tree, name), 'utf8');

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'root-'));
  await initKeys(join(dir, 'keys'));
  options = {
    paths: [],
    destination: localDestination(join(dir, 'tree')),
    keys: await loadKeys(join(dir, 'keys'), {}),
    unsigned: true,
    firstPublish: true,
    baseUrl: 'https://one.example.org',
  };
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test('another page replaces the page, and leaves the index as it is; without a page it stays', async () => {
  const { serial } = await publish({ ...options, page: Buffer.from('one') });
  expect(await read('tree')).toBe('one');
  const index = await read('tree', 'index.json');
  expect((await publish({ ...options, page: Buffer.from('two') })).serial).toBe(serial);
  expect(await read('tree')).toBe('two');
  expect(await read('tree', 'index.json')).toBe(index);
  await publish({ ...options, baseUrl: 'https://two.example.org' });
  expect(await read('tree')).toBe('two');
  expect(await read('tree', 'index.json')).toContain('two.example.org');
  const sets = (await readdir(join(dir, 'tree'))).filter((name) => name.startsWith('.set-'));
  expect(sets).toHaveLength(1);
});

test('a mirror gets the page of its publisher, not what the server of the tree has', async () => {
  const { keys } = options;
  await mirror({
    tree: openTree(join(dir, 'tree')),
    destination: localDestination(join(dir, 'mirror')),
    trust: trustOf(keys),
    baseUrl: 'https://mirror.example.org',
    page: Buffer.from('ours'),
  });
  expect(await read('mirror')).toBe('ours');
});
