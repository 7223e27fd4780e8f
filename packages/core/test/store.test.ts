import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openStore, type Store } from '../src/store/store.ts';
import { digestOf, sha256Of } from '../src/util/digest.ts';

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
  (await readdir(join(store.root, 'blobs'), { recursive: true }).catch(() => []))
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
  'prune refuses a limit that is not a limit, and removes nothing: %o',
  async (limit) => {
    await keep('young', 0);
    await expect(store.prune(limit)).rejects.toThrow('which is not a limit');
    expect(await blobs()).toHaveLength(1);
  },
);

/** Runs a script in another process on the store, and gives the signal that ended it. */
async function elsewhere(script: string): Promise<unknown> {
  const text = `
    import { openStore } from ${JSON.stringify(resolve(import.meta.dirname, '../src/store/store.ts'))};
    import { writeFileSync } from 'node:fs';
    const store = openStore(${JSON.stringify(store.root)});
    ${script}`;
  const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', text], { stdio: ['ignore', 'inherit', 'inherit'] });
  const [, signal] = await once(child, 'close');
  return signal;
}

const makeResult = (key: string, text = 'content'): Promise<{ dir: string; cached: boolean }> =>
  store.result('made', key, (made) => writeFile(join(made, 'file'), text));

test('prune also removes results, their lists and partial downloads, and what killed processes left in temp and locks', async () => {
  const { dir: result } = await makeResult('key');
  await writeFile(store.partial('0'.repeat(64)), 'part');
  await mkdir(join(store.root, 'temp/1-left'), { recursive: true });
  await writeFile(join(store.root, 'locks/left'), '');
  expect(await store.prune({ olderThanDays: 0, maxBytes: 0 })).toMatchObject({ removed: 2 });
  for (const folder of ['results/made', 'partial', 'temp', 'locks']) expect(await readdir(join(store.root, folder)), folder).toEqual([]);
  expect(await readdir(dirname(result))).toEqual([]);
});

test('prune is refused while another process uses the store, and the error names that process', async () => {
  await keep('young', 0);
  const text = `
    import { openStore } from ${JSON.stringify(resolve(import.meta.dirname, '../src/store/store.ts'))};
    await openStore(${JSON.stringify(store.root)}).stats();
    console.log('open');
    setTimeout(() => undefined, 600_000);`;
  const other = spawn(process.execPath, ['--input-type=module-typescript', '--eval', text], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(other.stdout, 'data');
    await expect(store.prune({ maxBytes: 0 })).rejects.toThrow(`the cache is in use by process ${other.pid} (`);
    expect(await blobs()).toHaveLength(1);
  } finally {
    other.kill('SIGKILL');
    await once(other, 'close');
  }
  expect(await store.prune({ maxBytes: 0 })).toMatchObject({ removed: 1 });
});

describe('verify', () => {
  test('removes damaged blobs and results, and nothing else', async () => {
    const [good, bad] = [await keep('good', 0), await keep('bad', 0)];
    const [kept, damaged] = [await makeResult('kept'), await makeResult('damaged')];
    const [blob, file] = [join(store.root, 'blobs', bad.slice(0, 2), bad), join(damaged.dir, 'file')];
    const { atime, mtime } = await stat(file);
    await chmod(blob, 0o644);
    await writeFile(blob, 'dab');
    await writeFile(file, 'tnetnoc'); // the same size and time, which only reading tells from before
    await utimes(file, atime, mtime);
    expect((await store.verify()).toSorted()).toEqual([blob, damaged.dir].toSorted());
    expect(await blobs()).toEqual([good]);
    expect(await makeResult('kept')).toEqual({ dir: kept.dir, cached: true });
    expect(await makeResult('damaged')).toEqual({ dir: damaged.dir, cached: false });
    expect(await store.verify()).toEqual([]);
  });

  test('removes what is not named by a digest', async () => {
    const sha256 = await keep('good', 0);
    const stray = join(store.root, 'blobs', sha256.slice(0, 2), 'stray');
    await writeFile(stray, 'text');
    expect(await store.verify()).toEqual([stray]);
    expect(await blobs()).toEqual([sha256]);
  });
});

describe('keep', () => {
  test('refuses a file without the expected digest, and leaves it', async () => {
    const file = join(dir, 'file');
    await writeFile(file, 'text');
    await expect(store.keep(file, '0'.repeat(64))).rejects.toMatchObject({ code: 'wrong-digest' });
    expect(await readFile(file, 'utf8')).toBe('text');
    expect(await blobs()).toEqual([]);
  });

  test('a file on another file system is copied, checked and removed', async ({ skip }) => {
    const elsewhereDir = await mkdtemp('/dev/shm/store-test-').catch(() => skip('skipped: there is no /dev/shm'));
    try {
      skip((await stat(elsewhereDir)).dev === (await stat(dir)).dev, 'skipped: temporary files are on the file system of /dev/shm');
      const file = join(elsewhereDir, 'file');
      await writeFile(file, 'text');
      const { path, sha256, size } = await store.keep(file);
      expect({ sha256, size }).toEqual({ sha256: sha256Of('text'), size: 4 });
      expect(await readFile(path, 'utf8')).toBe('text');
      expect((await stat(path)).mode & 0o777).toBe(0o444);
      expect(await readdir(elsewhereDir)).toEqual([]);
      expect(await readdir(join(store.root, 'temp'))).toEqual([]);
    } finally {
      await rm(elsewhereDir, { recursive: true });
    }
  });

  test('a blob that was damaged is missing, and can be kept again', async () => {
    const sha256 = await keep('text', 0);
    const path = await store.blob(sha256);
    await chmod(path ?? '', 0o644);
    await writeFile(path ?? '', 'other text');
    expect(await store.blob(sha256)).toBeUndefined();
    expect(await keep('text', 0)).toBe(sha256);
    expect(await store.blob(sha256)).toBe(path);
  });
});

describe('result', () => {
  test('is made once by many callers at the same time', async () => {
    let made = 0;
    const all = await Promise.all(
      Array.from({ length: 5 }, () =>
        store.result('made', 'key', async (fresh) => {
          made += 1;
          await writeFile(join(fresh, 'file'), 'content');
        }),
      ),
    );
    expect(made).toBe(1);
    expect(all.filter(({ cached }) => !cached)).toHaveLength(1);
  });

  test.each([
    [
      'while it was filled',
      `await store.result('made', 'key', (made) => { writeFileSync(made + '/half', ''); process.kill(process.pid, 'SIGKILL'); })`,
    ],
    [
      'between its rename and its list',
      `import fs from 'node:fs/promises';
       import { syncBuiltinESMExports } from 'node:module';
       const { rename } = fs;
       fs.rename = async (from, to) => { await rename(from, to); if (to.endsWith('/made/key')) process.kill(process.pid, 'SIGKILL'); };
       syncBuiltinESMExports();
       await store.result('made', 'key', async (made) => writeFileSync(made + '/half', ''));`,
    ],
  ])('of a process that was killed %s is made again, and nothing of it is left', async (_, script) => {
    expect(await elsewhere(script)).toBe('SIGKILL');
    expect(await makeResult('key')).toMatchObject({ cached: false });
    expect(await readdir(join(store.root, 'results/made/key'))).toEqual(['file']);
    expect(await readdir(join(store.root, 'results/made'))).toEqual(['key', 'key.list']);
    expect(await readdir(join(store.root, 'temp')).catch(() => [])).toEqual([]);
  });

  test('of a call that failed is not there, and the next call makes it', async () => {
    await expect(store.result('made', 'key', () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
    expect(await readdir(join(store.root, 'temp'))).toEqual([]);
    expect(await makeResult('key')).toMatchObject({ cached: false });
  });

  test.each(['../key', '.key', 'a/b', ''])('is not made under the name %j', async (name) => {
    await expect(makeResult(name)).rejects.toThrow('is not a valid name of a store entry');
  });
});

test('a lock is released when its holder fails', async () => {
  await expect(store.lock('name', () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
  expect(await store.lock('name', () => Promise.resolve('taken'))).toBe('taken');
});

describe('digestOf', () => {
  test('does not depend on the order of keys, and depends on every value', () => {
    expect(digestOf({ a: 1, b: [{ c: 2, d: undefined }] })).toBe(digestOf({ b: [{ c: 2 }], a: 1 }));
    expect(digestOf({ a: [1, 2] })).not.toBe(digestOf({ a: [2, 1] }));
    expect(digestOf({ a: 1 })).not.toBe(digestOf({ a: '1' }));
  });

  test.each([[Number.NaN], [new Map([['a', 1]])], [() => 1], [new Set([1])], [undefined]])('refuses %s, which JSON would lose', (value) => {
    expect(() => digestOf(value === undefined ? undefined : { value })).toThrow(TypeError);
  });
});
