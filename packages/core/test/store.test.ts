import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openStore, type Store } from '../src/store/store.ts';

const DAY = 86_400;
let dir: string;
let store: Store;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'store-test-'));
  store = openStore(join(dir, 'store'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** Keeps a file of so many bytes that was last used so many days ago. */
async function keep(text: string, days: number): Promise<string> {
  const file = join(dir, 'file');
  await writeFile(file, text);
  const { path, sha256 } = await store.keep(file);
  const used = Date.now() / 1000 - days * DAY;
  await utimes(path, used, used);
  return sha256;
}
const blobs = async (): Promise<string[]> =>
  (await readdir(join(store.root, 'blobs'), { recursive: true }))
    .filter((name) => name.includes('/'))
    .map((name) => name.split('/')[1] ?? '');

test('prune removes what was not used for so many days, and nothing without a limit', async () => {
  const [old, young] = [await keep('old', 40), await keep('young', 10)];
  expect(await store.prune({})).toEqual({ removed: 0, bytes: 0 });
  expect(await store.prune({ olderThanDays: 30 })).toMatchObject({ removed: 1 });
  expect(await blobs()).toEqual([young]);
  expect(old).not.toBe(young);
});

test('prune removes the least recently used until the rest fits', async () => {
  await keep('a'.repeat(1000), 3);
  await keep('b'.repeat(1000), 2);
  const newest = await keep('c'.repeat(1000), 1);
  const total = (await store.stats()).find(({ kind }) => kind === 'blobs')?.bytes ?? 0;
  expect(await store.prune({ maxBytes: total / 2 })).toMatchObject({ removed: 2 });
  expect(await blobs()).toEqual([newest]);
});

test.each([{ olderThanDays: Number.NaN }, { maxBytes: Number.NaN }, { olderThanDays: -1 }, { maxBytes: -1 }])(
  'prune empties no store by a limit that is none: %o',
  async (limit) => {
    await keep('young', 0);
    await expect(store.prune(limit)).rejects.toThrow('which is not a limit');
    expect(await blobs()).toHaveLength(1);
  },
);
