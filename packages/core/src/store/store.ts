import { createHash, randomBytes } from 'node:crypto';
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { chmod, copyFile, lstat, mkdir, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { envOf, homeOf, isSudo, type Environment } from '../util/env.ts';
import { describeErrno } from '../util/errno.ts';
import { UserError } from '../util/errors.ts';
import { fsync, hashFile, makeFolder, writeAtomic } from '../util/files.ts';
import { throwIfInterrupted } from '../util/interrupt.ts';
import { heldLocks, openLock, take, usersOf, withLock, type LockFile } from '../util/locks.ts';
import { mapParallel } from '../util/parallel.ts';
import { removeAbandoned, TEMPORARY, withTemporaryFolder } from '../util/temporary.ts';

/**
 * The cache folder: FLATCAR_EXT_CACHE, else `flatcar-ext` in the user's cache folder (XDG base directories); under sudo, in root's own.
 * Throws a UserError where neither is known, and for paths that programs started out of the store cannot take.
 */
export function cacheRoot(env: Environment = process.env): string {
  const own = envOf('FLATCAR_EXT_CACHE', env);
  const xdg = envOf('XDG_CACHE_HOME', env);
  const home = homeOf(env);
  const user = xdg?.startsWith('/') === true && !isSudo(env) ? xdg : home === undefined ? undefined : join(home, '.cache');
  if (own === undefined && user === undefined)
    throw new UserError('there is no home folder to keep the store in: HOME is not set, and the user database has no entry for this user', {
      next: 'set FLATCAR_EXT_CACHE to a folder for downloads, tools and build results',
    });
  const root = own === undefined ? join(user ?? '/', 'flatcar-ext') : resolve(own);
  // glibc's library path ends at ':' and ';', systemd's definitions take '%' for a specifier, and lists are read by lines.
  const wrong = /[:;%\n\r]/.exec(root)?.[0];
  if (wrong !== undefined)
    throw new UserError(`the path of the store must not contain ${JSON.stringify(wrong)}: tools are started out of it`, {
      where: root,
      next: 'set FLATCAR_EXT_CACHE to another folder',
    });
  return root;
}

/** sha256 (hex) of a JSON value, whatever the order of its keys. Throws on what JSON would lose: a key must not forget an input. */
export function digestOf(value: unknown): string {
  const canonical = JSON.stringify(value, (key, item: unknown) => {
    if (typeof item === 'number' && !Number.isFinite(item)) throw new TypeError(`'${key}' is ${item}, which JSON does not know`);
    if (typeof item === 'function' || typeof item === 'symbol') throw new TypeError(`'${key}' is a ${typeof item}, not JSON`);
    if (item === null || typeof item !== 'object' || Array.isArray(item)) return item;
    const prototype: unknown = Object.getPrototypeOf(item);
    if (prototype !== Object.prototype && prototype !== null) throw new TypeError(`'${key}' is no plain object`);
    return Object.fromEntries(Object.entries(item).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  });
  if (canonical === undefined) throw new TypeError('undefined has no digest');
  return createHash('sha256').update(canonical).digest('hex');
}

/** Removes a tree, also one with folders that its owner may not write to (Go's module cache). */
async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (!['EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    await chmod(path, 0o700);
    for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
      // readdir opens folders as it goes, so one below an unreadable folder may be missed; those are not ours.
      if (entry.isDirectory()) await chmod(join(entry.parentPath, entry.name), 0o700);
    }
    await rm(path, { recursive: true, force: true });
  }
}

/** A file whose bytes are not those that were asked for. */
export class DigestError extends UserError {
  readonly expected: string;
  readonly actual: string;

  constructor(file: string, expected: string, actual: string) {
    super(`wrong sha256: expected ${expected}, got ${actual}`, { where: file });
    this.name = 'DigestError';
    this.expected = expected;
    this.actual = actual;
  }
}

/** One thing that can be removed by itself. */
interface Entry {
  readonly kind: string;
  readonly path: string;
  readonly bytes: number;
  /** Last use, milliseconds since 1970. */
  readonly used: number;
}

/** What the store holds of one kind. */
export interface StoreStats {
  /** `blobs`, `partial`, `temp`, a kind of result, or what else stands below the root. */
  readonly kind: string;
  readonly entries: number;
  readonly bytes: number;
}

/** A content-addressed cache folder; safe for any number of processes at once, and against a kill at any moment. */
export interface Store {
  readonly root: string;
  /** Path of a blob, read and checked against its name (once per process); a damaged one is removed and is undefined. */
  blob(sha256: string): Promise<string | undefined>;
  /** Moves a file into the store. Throws a DigestError, and leaves the file, when it is not the one asked for. */
  keep(file: string, sha256?: string): Promise<{ path: string; sha256: string; size: number }>;
  /** Stable path for a resumable download; its folder exists. Write to it under a lock only. */
  partial(sha256: string): string;
  /**
   * A folder whose content is decided by `key`. `make` fills it at most once, whatever number of processes ask;
   * what was damaged since (by its list of sizes, times and digests) is made again. Treat it as read-only.
   */
  result(kind: string, key: string, make: (dir: string) => Promise<void>): Promise<{ dir: string; cached: boolean }>;
  /** A folder that is removed afterwards; that of a killed process goes when the store is next used by one process alone. */
  withTemp<T>(fn: (dir: string) => Promise<T>): Promise<T>;
  /** Runs `fn` while no other holder of that name runs, in this process or another. Not reentrant. */
  lock<T>(name: string, fn: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Removes what was not used for some days, then what was used longest ago until the rest fits. Refused while another process uses the store. */
  prune(options: { maxBytes?: number; olderThanDays?: number }): Promise<{ removed: number; bytes: number }>;
  stats(): Promise<StoreStats[]>;
  /** Reads everything again and removes what is damaged; gives the paths removed. */
  verify(): Promise<string[]>;
}

/** One line of the list that stands beside a result. */
interface Listed {
  readonly path: string;
  readonly type: 'file' | 'dir' | 'link' | 'special';
  readonly mode: number;
  readonly size: number;
  /** Of files, in nanoseconds; a string because JSON's numbers end before. */
  readonly mtime?: string;
  readonly sha256?: string;
  readonly link?: string;
}

/** What is used again within an hour is not marked as used again. */
const TOUCH_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** Lists a tree in the order of names. Synchronous: 13 000 files take a tenth of a second so, and four times that through promises. */
function list(root: string): Listed[] {
  const found: Listed[] = [];
  const walk = (relative: string): void => {
    for (const name of readdirSync(join(root, relative)).toSorted()) {
      const path = relative === '' ? name : `${relative}/${name}`;
      const full = join(root, path);
      const status = lstatSync(full, { bigint: true });
      const common = { path, mode: Number(status.mode & 0o7777n), size: status.isFile() ? Number(status.size) : 0 };
      if (status.isDirectory()) {
        found.push({ ...common, type: 'dir' });
        walk(path);
      } else if (status.isSymbolicLink()) found.push({ ...common, type: 'link', link: readlinkSync(full) });
      else if (status.isFile()) found.push({ ...common, type: 'file', mtime: String(status.mtimeNs) });
      else found.push({ ...common, type: 'special' });
    }
  };
  walk('');
  return found;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._+-]*$/;
const SHA256 = /^[0-9a-f]{64}$/;

function checked(pattern: RegExp, text: string): string {
  if (!pattern.test(text)) throw new Error(`'${text}' is no name for an entry of the store`);
  return text;
}

const randomName = (): string => randomBytes(8).toString('hex');

const missing = (error: unknown): undefined => {
  if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
  throw error;
};

/** Folder names; none when there is no such folder. */
async function namesIn(dir: string): Promise<string[]> {
  return (await readdir(dir).catch(missing)) ?? [];
}

// Every process that uses a store holds a shared lock on it, so that prune (which takes it alone) never removes what is in use.
const users = new Map<string, Promise<LockFile>>();

// Digests by identity of the file, not by path: a rename does not change content.
const hashed = new Map<string, string>();

async function identityOf(path: string): Promise<{ id: string; settled: boolean }> {
  const { dev, ino, size, mtimeMs, mtimeNs } = await stat(path, { bigint: true });
  // Times tick in steps of milliseconds: what was written just now may be written again under the same time.
  return { id: `${dev} ${ino} ${size} ${mtimeNs}`, settled: Date.now() - Number(mtimeMs) > 100 };
}

/** Digest of a file of the store; what this process has read once is not read again. */
async function hashOnce(path: string): Promise<string> {
  const { id, settled } = await identityOf(path);
  const known = hashed.get(id);
  if (known !== undefined) return known;
  const sha256 = await hashFile(path);
  if (settled) hashed.set(id, sha256);
  return sha256;
}

/** Marks as used: access time is what prune goes by. Set by hand, because most systems mount with noatime or relatime. */
async function touch(path: string): Promise<void> {
  const { atimeMs, mtime } = await stat(path);
  if (Date.now() - atimeMs > TOUCH_MS) await utimes(path, new Date(), mtime);
}

/** The error for a store that cannot be opened: names the setting, and keeps what is known of the reason. Undefined for our own defects. */
function unusable(root: string, error: unknown): UserError | undefined {
  const known = describeErrno(error, root);
  if (known === undefined) return undefined;
  const next = 'set FLATCAR_EXT_CACHE to a folder of your own on a local file system';
  return new UserError(`the store cannot be used: ${known.message}`, {
    where: known.where ?? root,
    next: known.next === undefined || known.next.startsWith('use a') ? next : `${known.next}; or ${next}`,
    cause: error,
  });
}

/** Opens the store below a folder, which is made when first needed. */
export function openStore(root: string = cacheRoot()): Store {
  const temp = join(root, 'temp');
  const blobs = join(root, 'blobs');
  const partials = join(root, 'partial');
  const results = join(root, 'results');
  const inUse = join(root, 'in-use.lock');
  const lockFile = (name: string): string => join(root, 'locks', encodeURIComponent(name));
  const blobPath = (sha256: string): string => join(blobs, sha256.slice(0, 2), sha256);
  const listOf = (result: string): string => `${result}.list`;

  /** Must come first in whatever touches the store. The first user alone clears what killed processes left. */
  async function use(): Promise<LockFile> {
    const begun = users.get(root);
    if (begun !== undefined) return begun;
    const begin = async (): Promise<LockFile> => {
      const lock = await openLock(inUse);
      if (lock.tryTake(false)) {
        await removeTree(temp);
        for (const kind of await namesIn(results)) await removeAbandoned(join(results, kind), TEMPORARY);
      }
      await take(lock, inUse, true);
      await makeFolder(partials);
      return lock;
    };
    const beginning = begin().catch((error: unknown) => {
      throw unusable(root, error) ?? error;
    });
    users.set(root, beginning);
    beginning.catch(() => users.delete(root));
    return beginning;
  }

  async function lock<T>(name: string, fn: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await use();
    return withLock(lockFile(name), fn, signal);
  }

  async function withTemp<T>(fn: (dir: string) => Promise<T>): Promise<T> {
    throwIfInterrupted();
    await use();
    const dir = join(temp, `${process.pid}-${randomName()}`);
    await makeFolder(dir, 0o700); // setuid files of images that are looked into may lie here
    try {
      return await withTemporaryFolder(dir, () => fn(dir));
    } finally {
      await removeTree(dir);
    }
  }

  /** Takes an entry away in one step, so that nobody sees half of it; a result's list goes first: without it, it is none. */
  async function discard(path: string): Promise<void> {
    await rm(listOf(path), { force: true });
    await makeFolder(temp);
    const away = join(temp, `${process.pid}-${randomName()}`);
    await rename(path, away).catch(missing);
    await removeTree(away);
  }

  async function isWhole(sha256: string): Promise<boolean | undefined> {
    return hashOnce(blobPath(sha256)).then((actual) => actual === sha256, missing);
  }

  async function blob(sha256: string): Promise<string | undefined> {
    await use();
    const path = blobPath(checked(SHA256, sha256));
    const whole = await isWhole(sha256);
    if (whole === undefined) return undefined;
    if (!whole) {
      // Looked at again under the lock: another process may have put a good one there.
      const repaired = await lock(`blob-${sha256}`, async () => {
        if ((await isWhole(sha256)) === true) return true;
        await discard(path);
        return false;
      });
      if (!repaired) return undefined;
    }
    await touch(path);
    return path;
  }

  async function keep(file: string, expected?: string): Promise<{ path: string; sha256: string; size: number }> {
    await use();
    const sha256 = await hashOnce(file);
    if (expected !== undefined && sha256 !== expected) throw new DigestError(file, expected, sha256);
    const path = blobPath(sha256);
    await makeFolder(dirname(path));
    await lock(`blob-${sha256}`, async () => {
      const move = async (from: string): Promise<void> => {
        await chmod(from, 0o444);
        await fsync(from);
        await rename(from, path);
      };
      try {
        await move(file);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error;
        await withTemp(async (dir) => {
          const copy = join(dir, sha256);
          await copyFile(file, copy);
          if ((await hashFile(copy)) !== sha256) throw new Error(`${file} changed while it was copied`, { cause: error });
          await move(copy);
        });
        await rm(file);
      }
      await fsync(dirname(path));
      hashed.set((await identityOf(path)).id, sha256); // nobody writes to it any more
    });
    return { path, sha256, size: (await stat(path)).size };
  }

  /** True when a result is as its list says. Content is read where times differ, or all of it when `thorough`. */
  async function isIntact(dir: string, thorough = false): Promise<boolean> {
    let wanted: readonly Listed[];
    let have: readonly Listed[];
    try {
      const listed: unknown = JSON.parse(await readFile(listOf(dir), 'utf8'));
      // Toolchains have tens of thousands of entries, and each field is compared below: that takes the place of a schema.
      if (!Array.isArray(listed) || listed.some((one) => typeof one !== 'object' || one === null)) return false;
      wanted = listed as Listed[];
      have = list(dir);
    } catch {
      return false; // neither a list that ends in the middle nor a folder that is not there is worth more words
    }
    if (wanted.length !== have.length) return false;
    let retimed = false;
    for (const [index, want] of wanted.entries()) {
      const is = have[index];
      if (is?.path !== want.path || is.type !== want.type || is.mode !== want.mode || is.size !== want.size || is.link !== want.link)
        return false;
      if (want.type !== 'file' || (is.mtime === want.mtime && !thorough)) continue;
      if ((await hashOnce(join(dir, is.path))) !== want.sha256) return false;
      retimed ||= is.mtime !== want.mtime;
    }
    // Same content, other times, such as in a cache that was copied: noted, so that it is not read again by each process.
    if (retimed) await writeAtomic(listOf(dir), JSON.stringify(have.map((is, index) => ({ ...wanted[index], ...is }))));
    return true;
  }

  async function result(kind: string, key: string, make: (dir: string) => Promise<void>): Promise<{ dir: string; cached: boolean }> {
    throwIfInterrupted();
    await use();
    const dir = join(results, checked(NAME, kind), checked(NAME, key));
    const present = async (): Promise<boolean> => {
      if (!(await isIntact(dir))) return false;
      await touch(listOf(dir));
      return true;
    };
    if (await present()) return { dir, cached: true };
    return lock(`${kind}-${key}`, async () => {
      if (await present()) return { dir, cached: true };
      await discard(dir);
      await withTemp(async (made) => {
        const fresh = join(made, 'result');
        await mkdir(fresh);
        await make(fresh);
        const listed = await mapParallel(list(fresh), async (one): Promise<Listed> => {
          const path = join(fresh, one.path);
          if (one.type === 'file' || one.type === 'dir') await fsync(path);
          return one.type === 'file' ? { ...one, sha256: await hashFile(path) } : one;
        });
        await fsync(fresh);
        await makeFolder(dirname(dir));
        await rename(fresh, dir);
        // The list comes last, with its folder's fsync: a result without one does not exist.
        await writeAtomic(listOf(dir), JSON.stringify(listed));
      });
      return { dir, cached: false };
    });
  }

  /** Undefined when it went away meanwhile: others work here too. */
  async function entry(kind: string, path: string, marker?: string): Promise<Entry | undefined> {
    return measure(kind, path, marker).catch(missing);
  }

  async function measure(kind: string, path: string, marker?: string): Promise<Entry> {
    const own = await lstat(path);
    const inside = own.isDirectory() ? list(path) : [];
    const bytes = inside.reduce((sum, { size }) => sum + size, own.isFile() ? own.size : 0);
    if (marker === undefined) {
      // What others keep below the root (Go's caches): as young as the youngest file in it.
      const newest = inside.reduce((latest, { mtime }) => Math.max(latest, Number(mtime ?? 0) / 1e6), own.mtimeMs);
      return { kind, path, bytes, used: newest };
    }
    const times = await stat(marker).catch(missing);
    return { kind, path, bytes, used: times === undefined ? 0 : Math.max(times.atimeMs, times.mtimeMs) };
  }

  /** All that prune, stats and verify speak of. */
  async function entries(): Promise<Entry[]> {
    const found: Promise<Entry | undefined>[] = [];
    for (const kind of await namesIn(root)) {
      if (kind === 'locks') continue;
      for (const name of await namesIn(join(root, kind))) {
        const path = join(root, kind, name);
        if (kind === 'partial') found.push(entry(kind, path, path));
        else if (kind === 'blobs') found.push(...(await namesIn(path)).map((blob) => entry(kind, join(path, blob), join(path, blob))));
        else if (kind === 'results') {
          const results = (await namesIn(path)).filter((result) => NAME.test(result) && !result.endsWith('.list'));
          found.push(...results.map((result) => entry(name, join(path, result), listOf(join(path, result)))));
        } else found.push(entry(kind, path));
      }
    }
    return (await Promise.all(found)).filter((one) => one !== undefined);
  }

  async function prune(options: { maxBytes?: number; olderThanDays?: number }): Promise<{ removed: number; bytes: number }> {
    const own = await use();
    if (!own.tryTake(false)) {
      const others = (await usersOf(inUse)).slice(0, 3).join(', ');
      throw new UserError(`the cache is in use by ${others || 'another process'}`, {
        where: root,
        next: 'run this again when that has ended',
      });
    }
    own.sign();
    try {
      const { maxBytes = Infinity, olderThanDays = Infinity } = options;
      // Compared with these, everything would be too old or too much.
      for (const [name, value] of Object.entries({ maxBytes, olderThanDays }))
        if (!(value >= 0))
          throw new UserError(`${name} is ${value}, which is not a limit`, { where: root, next: 'pass a number from 0 on' });
      const oldest = Date.now() - olderThanDays * DAY_MS;
      const all = (await entries()).filter(({ kind }) => kind !== 'temp').toSorted((a, b) => a.used - b.used);
      let total = all.reduce((sum, { bytes }) => sum + bytes, 0);
      let removed = 0;
      let bytes = 0;
      for (const entry of all) {
        if (entry.used >= oldest && total <= maxBytes) continue;
        await discard(entry.path);
        total -= entry.bytes;
        bytes += entry.bytes;
        removed += 1;
      }
      // Nobody else is here: what is not ours is left from killed processes.
      for (const name of await namesIn(temp)) if (!name.startsWith(`${process.pid}-`)) await removeTree(join(temp, name));
      const held = heldLocks();
      for (const name of await namesIn(join(root, 'locks'))) {
        const file = join(root, 'locks', name);
        if (!held.has(file)) await rm(file, { force: true });
      }
      return { removed, bytes };
    } finally {
      own.tryTake(true);
    }
  }

  async function stats(): Promise<StoreStats[]> {
    await use();
    const kinds = Map.groupBy(await entries(), ({ kind }) => kind);
    return [...kinds]
      .map(([kind, found]) => ({ kind, entries: found.length, bytes: found.reduce((sum, { bytes }) => sum + bytes, 0) }))
      .toSorted((a, b) => (a.kind < b.kind ? -1 : 1));
  }

  async function verify(): Promise<string[]> {
    await use();
    hashed.clear();
    const damaged: string[] = [];
    for (const { kind, path } of await entries()) {
      const name = basename(path);
      const isBlob = path.startsWith(blobs);
      if (!isBlob && !path.startsWith(results)) continue;
      const check = async (): Promise<boolean> => (isBlob ? (await isWhole(name)) === true : isIntact(path, true));
      if (await check()) continue;
      await lock(isBlob ? `blob-${name}` : `${kind}-${name}`, async () => {
        if (await check()) return;
        await discard(path);
        damaged.push(path);
      });
    }
    return damaged;
  }

  return { root, blob, keep, partial: (sha256) => join(partials, checked(SHA256, sha256)), result, withTemp, lock, prune, stats, verify };
}
