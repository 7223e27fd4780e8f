import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, mkdir, open, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import locks from 'fs-native-extensions';
import { UserError } from './errors.ts';

/** What is kept, by kind, and how much. */
export interface StoreStats {
  readonly kind: string;
  readonly entries: number;
  readonly bytes: number;
}

/** Downloads, tools and build results under one folder, content-addressed; safe against a kill at any moment and two builds at once. */
export interface Store {
  readonly root: string;
  /** Path of a blob whose bytes are those of its name; a damaged one is removed and undefined. */
  blob(sha256: string): Promise<string | undefined>;
  /** Moves a file into the store. Throws when its digest is not the expected one. */
  keep(file: string, sha256?: string): Promise<{ path: string; sha256: string; size: number }>;
  /** Where the download of a blob collects until it is whole. */
  partial(sha256: string): string;
  /** The folder that `key` decides the content of; `make` fills it when it is not there or is damaged. */
  result(kind: string, key: string, make: (dir: string) => Promise<void>): Promise<{ dir: string; cached: boolean }>;
  /** A folder that is gone afterwards. */
  withTemp<T>(use: (dir: string) => Promise<T>): Promise<T>;
  /** Runs one at a time among all processes that use this store; the kernel drops the lock with its process. */
  lock<T>(name: string, run: () => Promise<T>): Promise<T>;
  /** Removes what was not used for some days, then the least recently used until the rest fits, and leftovers of killed processes. */
  prune(options: { maxBytes?: number; olderThanDays?: number }): Promise<{ removed: number; bytes: number }>;
  stats(): Promise<StoreStats[]>;
  /** Reads everything again and removes what is damaged; gives the paths removed. */
  verify(): Promise<string[]>;
}

/** One file of a result, as its list has it. */
interface Listed {
  readonly path: string;
  readonly size: number;
  readonly mtimeMs: number;
  readonly sha256: string;
}

/** Where the store stands: FLATCAR_EXT_CACHE, or `flatcar-ext` in the user's cache folder. */
export function cacheRoot(): string {
  const { FLATCAR_EXT_CACHE, XDG_CACHE_HOME } = process.env;
  return FLATCAR_EXT_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'flatcar-ext');
}

function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, entry]) => entry !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, entry]) => [key, canonical(entry)]),
  );
}

/** sha256 (hex) of a value's canonical JSON: keys sorted, undefined left out. */
export function digestOf(value: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(canonical(value)))
    .digest('hex');
}

/** Digest of a file (hex), streamed. */
export async function hashFile(path: string, algorithm = 'sha256'): Promise<string> {
  const hash = createHash(algorithm);
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes a file so that either the old or the new one is there, whatever happens: temp, fsync, rename, fsync of the folder. */
export async function writeAtomic(path: string, data: string | Buffer): Promise<void> {
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    await writeFile(temporary, data, { flush: true });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncPath(dirname(path));
}

async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
}

async function listFiles(dir: string): Promise<Listed[]> {
  return Promise.all(
    (await filesBelow(dir)).map(async (file) => {
      await syncPath(file);
      const { size, mtimeMs } = await stat(file);
      return { path: relative(dir, file), size, mtimeMs, sha256: await hashFile(file) };
    }),
  );
}

/** Hex digests only: a key becomes a path. */
function checkKey(key: string): void {
  if (!/^[0-9a-f]{64}$/.test(key)) throw new UserError(`'${key}' is no sha256`);
}

const isThere = async (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );

/** Opens the store; folders are made when something is put into them. */
export function openStore(root: string = cacheRoot()): Store {
  const blobPath = (sha256: string): string => join(root, 'blobs', sha256.slice(0, 2), sha256);
  const resultPath = (kind: string, key: string): string => join(root, 'results', kind, key);
  // What this process has read and found whole is not read again while size and times stay.
  const known = new Map<string, string>();

  async function lock<T>(name: string, run: () => Promise<T>): Promise<T> {
    const dir = join(root, 'locks');
    await mkdir(dir, { recursive: true });
    const handle = await open(join(dir, name), 'a+');
    try {
      await locks.waitForLock(handle.fd);
      return await run();
    } finally {
      await handle.close(); // closing drops the lock
    }
  }

  async function withTemp<T>(use: (dir: string) => Promise<T>): Promise<T> {
    // The process id lets prune tell leftovers from folders in use.
    const dir = join(root, 'tmp', `${process.pid}-${randomBytes(6).toString('hex')}`);
    await mkdir(dir, { recursive: true });
    try {
      return await use(dir);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }

  async function blob(sha256: string): Promise<string | undefined> {
    checkKey(sha256);
    const path = blobPath(sha256);
    const info = await stat(path).catch(() => undefined);
    if (info === undefined) return undefined;
    const mark = `${info.size}:${info.mtimeMs}:${info.ino}`;
    if (known.get(path) !== mark) {
      if ((await hashFile(path)) !== sha256) {
        await rm(path, { force: true });
        return undefined;
      }
      known.set(path, mark);
    }
    return path;
  }

  async function keep(file: string, expected?: string): Promise<{ path: string; sha256: string; size: number }> {
    const sha256 = await hashFile(file);
    if (expected !== undefined && sha256 !== expected) {
      throw new UserError(`wrong digest: expected sha256 ${expected}, got ${sha256}`, { where: file });
    }
    const path = blobPath(sha256);
    await mkdir(dirname(path), { recursive: true });
    await syncPath(file);
    await rename(file, path);
    await syncPath(dirname(path));
    const { size, mtimeMs, ino } = await stat(path);
    known.set(path, `${size}:${mtimeMs}:${ino}`);
    return { path, sha256, size };
  }

  /** True when the list of a result is there and says what is on disk; bytes are read only where times differ, or for `deep`. */
  async function whole(dir: string, deep = false): Promise<boolean> {
    let listed: Listed[];
    try {
      listed = JSON.parse(await readFile(`${dir}.list`, 'utf8')) as Listed[];
    } catch {
      return false;
    }
    const checks = await Promise.all(
      listed.map(async ({ path, size, mtimeMs, sha256 }) => {
        const info = await stat(join(dir, path)).catch(() => undefined);
        if (info === undefined || info.size !== size) return false;
        return (!deep && info.mtimeMs === mtimeMs) || (await hashFile(join(dir, path))) === sha256;
      }),
    );
    return checks.every(Boolean);
  }

  async function result(kind: string, key: string, make: (dir: string) => Promise<void>): Promise<{ dir: string; cached: boolean }> {
    checkKey(key);
    const dir = resultPath(kind, key);
    const used = async (cached: boolean): Promise<{ dir: string; cached: boolean }> => {
      await utimes(`${dir}.list`, new Date(), new Date()); // prune goes by last use
      return { dir, cached };
    };
    if (await whole(dir)) return used(true);
    return lock(`${kind}-${key}`, async () => {
      if (await whole(dir)) return used(true);
      return withTemp(async (temp) => {
        const fresh = join(temp, 'result');
        await mkdir(fresh);
        await make(fresh);
        const list = await listFiles(fresh);
        await mkdir(dirname(dir), { recursive: true });
        await rm(`${dir}.list`, { force: true });
        await rm(dir, { recursive: true, force: true });
        await rename(fresh, dir);
        // The list comes last: a result without one does not exist.
        await writeAtomic(`${dir}.list`, JSON.stringify(list));
        return used(false);
      });
    });
  }

  /** All entries: blobs, results with their lists, leftovers. */
  async function entries(): Promise<{ kind: string; path: string; bytes: number; used: number }[]> {
    const found: { kind: string; path: string; bytes: number; used: number }[] = [];
    for (const path of await filesBelow(join(root, 'blobs'))) {
      const { size, atimeMs, mtimeMs } = await stat(path);
      found.push({ kind: 'blobs', path, bytes: size, used: Math.max(atimeMs, mtimeMs) });
    }
    for (const kind of await readdir(join(root, 'results')).catch(() => [])) {
      for (const name of await readdir(join(root, 'results', kind))) {
        if (name.endsWith('.list')) continue;
        const path = join(root, 'results', kind, name);
        const listed = await stat(`${path}.list`).catch(() => undefined);
        const sizes = await Promise.all((await filesBelow(path)).map(async (file) => (await stat(file)).size));
        found.push({ kind, path, bytes: sizes.reduce((sum, size) => sum + size, 0), used: listed?.mtimeMs ?? 0 });
      }
    }
    return found;
  }

  async function removeEntry(path: string): Promise<void> {
    await rm(`${path}.list`, { force: true }); // first: without its list a half-removed result does not exist
    await rm(path, { recursive: true, force: true });
  }

  /** Temp folders of processes that are gone, and downloads given up a day ago. */
  async function removeLeftovers(): Promise<number> {
    let removed = 0;
    for (const name of await readdir(join(root, 'tmp')).catch(() => [])) {
      if (await isThere(`/proc/${name.split('-')[0]}`)) continue;
      await rm(join(root, 'tmp', name), { recursive: true, force: true });
      removed += 1;
    }
    for (const file of await filesBelow(join(root, 'partial'))) {
      if (Date.now() - (await stat(file)).mtimeMs < 86_400_000) continue;
      await rm(file, { force: true });
      removed += 1;
    }
    return removed;
  }

  return {
    root,
    blob,
    keep,
    partial: (sha256) => join(root, 'partial', sha256),
    result,
    withTemp,
    lock,
    async prune({ maxBytes = Number.POSITIVE_INFINITY, olderThanDays = Number.POSITIVE_INFINITY }) {
      let removed = await removeLeftovers();
      let bytes = 0;
      const all = (await entries()).toSorted((a, b) => a.used - b.used);
      let total = all.reduce((sum, entry) => sum + entry.bytes, 0);
      const oldest = Date.now() - olderThanDays * 86_400_000;
      for (const entry of all) {
        if (entry.used >= oldest && total <= maxBytes) continue;
        await removeEntry(entry.path);
        removed += 1;
        bytes += entry.bytes;
        total -= entry.bytes;
      }
      return { removed, bytes };
    },
    async stats() {
      const kinds = new Map<string, { entries: number; bytes: number }>();
      for (const { kind, bytes } of await entries()) {
        const sum = kinds.get(kind) ?? { entries: 0, bytes: 0 };
        kinds.set(kind, { entries: sum.entries + 1, bytes: sum.bytes + bytes });
      }
      return [...kinds].map(([kind, sum]) => ({ kind, ...sum })).toSorted((a, b) => (a.kind < b.kind ? -1 : 1));
    },
    async verify() {
      const damaged: string[] = [];
      known.clear();
      for (const { kind, path } of await entries()) {
        const fine = kind === 'blobs' ? (await hashFile(path)) === path.slice(-64) : await whole(path, true);
        if (fine) continue;
        await removeEntry(path);
        damaged.push(path);
      }
      return damaged;
    },
  };
}
