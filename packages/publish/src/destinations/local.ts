import { createHash } from 'node:crypto';
import { chmod, link, mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import {
  describeErrno,
  fsync,
  hashFile,
  makePublic,
  mapParallel,
  messageOf,
  mkdirPublic,
  PUBLIC_FILE,
  replaceFile,
  UserError,
  withLock,
  writeAtomic,
  type Report,
} from '@flatcar/core/engine';
import { METADATA } from '../tree/layout.ts';
import { localTree } from '../tree/local-tree.ts';
import type { FileAbout, Tree } from '../tree/tree.ts';
import { TakenError, type Destination } from './destination.ts';
import { openToOthers } from './open-to-others.ts';

const LOCK = '.publish.lock';
const STAGING = '.staging';
/** Link to the folder that holds the served version of files that belong together. */
const CURRENT = '.current';

const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

/** Makes `path` a link to `target` in one step, whatever it was. */
async function linkTo(target: string, path: string): Promise<void> {
  if ((await readlink(path).catch(() => undefined)) === target) return;
  await replaceFile(path, (temporary) => symlink(target, temporary));
}

/** Name of the folder for a set of files, derived from their names and bytes. */
function setName(files: ReadonlyMap<string, Buffer>): string {
  const hash = createHash('sha256');
  for (const [name, bytes] of files) hash.update(`${name} ${bytes.length}\n`).update(bytes);
  return `.set-${hash.digest('hex').slice(0, 32)}`;
}

/** Writes files into a new folder, so that they survive a power cut. */
async function writeSet(dir: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  await replaceFile(dir, async (fresh) => {
    await mkdirPublic(fresh);
    for (const [name, bytes] of files) {
      const file = join(fresh, name);
      await writeFile(file, bytes);
      await makePublic(file);
      await fsync(file);
    }
    await fsync(fresh);
  });
}

/** Rewrites those files of an existing set that somebody changed. */
async function repairSet(dir: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  await makePublic(dir, true);
  for (const [name, bytes] of files) {
    const file = join(dir, name);
    const present = await readFile(file).catch(() => undefined);
    if (present?.equals(bytes) === true) await makePublic(file, true);
    else await writeAtomic(file, bytes, PUBLIC_FILE);
  }
}

/** Removes sets that are no longer served, and links to files that only former sets had: they would lead nowhere. */
async function removeStale(base: string, set: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  for (const name of await readdir(base)) {
    const path = join(base, name);
    const isStaleLink = !files.has(name) && (await readlink(path).catch(() => undefined)) === `${CURRENT}/${name}`;
    if (isStaleLink || (name !== set && /^\.set-|\.tmp$/.test(name))) await rm(path, { recursive: true, force: true });
  }
}

/** A tree in a folder; see `localDestination`. */
class LocalDestination implements Destination {
  readonly where: string;
  readonly locks = true;
  /** Folders with new names that a power cut could still undo. */
  readonly #unsynced = new Set<string>();

  constructor(dir: string) {
    this.where = resolve(dir);
  }

  #at(path: string): string {
    return join(this.where, path);
  }

  /** Makes a folder of the tree. Its name in the folder above must survive a power cut, too. */
  async #makeFolders(path: string, within?: string): Promise<void> {
    for (const folder of await mkdirPublic(path, within)) this.#unsynced.add(dirname(folder));
  }

  async publish<T>(fn: (staging: string) => Promise<T>): Promise<T> {
    await this.#makeFolders(this.where).catch((cause: unknown) => {
      throw new UserError(`the folder cannot be made: ${messageOf(cause)}`, {
        where: this.where,
        next: 'name a folder that you can write',
        cause,
      });
    });
    return withLock(this.#at(LOCK), async () => {
      const staging = this.#at(STAGING);
      // Staged files are not served yet.
      await mkdir(staging, { recursive: true, mode: 0o700 });
      await chmod(staging, 0o700);
      try {
        return await fn(staging);
      } catch (error) {
        throw describeErrno(error, this.where) ?? error; // the error of a failed write to an open file has no path
      } finally {
        // Only a killed publish leaves the folder, for the next one to continue: it would be served, and fill the disk.
        await rm(staging, { recursive: true, force: true });
      }
    });
  }

  async read(path: string, limit?: number): Promise<Buffer | undefined> {
    return localTree(this.where).read(path, limit);
  }

  async isNew(): Promise<boolean> {
    const names: string[] = await readdir(this.where).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw error;
    });
    // A first publish that died left its lock and no link to a timestamp.
    const hasTimestamp = await readlink(join(this.#at(METADATA), CURRENT)).catch(() => undefined);
    const isUnfinished = names.includes(LOCK) && hasTimestamp === undefined;
    return names.every((name) => [LOCK, STAGING, 'lost+found'].includes(name)) || isUnfinished;
  }

  async openToOthers(extensions: readonly string[], report?: Report): Promise<void> {
    await openToOthers(this.where, extensions, report);
  }

  async put(path: string, file: string, { size, sha256 }: FileAbout): Promise<void> {
    const target = this.#at(path);
    await this.#makeFolders(dirname(target), this.where);
    await makePublic(file);
    try {
      await link(file, target);
      this.#unsynced.add(dirname(target));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      if ((await stat(target)).size !== size || (await hashFile(target)) !== sha256) throw new TakenError(target, path);
      await makePublic(target, true);
    }
  }

  async putOver(path: string, file: string): Promise<void> {
    const target = this.#at(path);
    await this.#makeFolders(dirname(target), this.where);
    await makePublic(file);
    await replaceFile(target, (temporary) => link(file, temporary));
    this.#unsynced.add(dirname(target));
  }

  /** Syncs folders with new names to the disk: once per folder, not per file, before anything refers to them. */
  async flush(): Promise<void> {
    const folders = [...this.#unsynced];
    this.#unsynced.clear();
    await mapParallel(folders, fsync, 4);
  }

  async replace(folder: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
    await this.flush();
    const base = this.#at(folder);
    const set = setName(files);
    await this.#makeFolders(base, this.where);
    await writeSet(join(base, set), files).catch(async (error: unknown) => {
      if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      await repairSet(join(base, set), files);
    });
    // The link must not survive a power cut that undoes its target.
    this.#unsynced.add(base);
    await this.flush();
    await linkTo(set, join(base, CURRENT));
    // Needed only for the first set. The signature comes first: whoever sees sums must find their signature.
    for (const name of [...files.keys()].toReversed()) await linkTo(`${CURRENT}/${name}`, join(base, name));
    await fsync(base);
    await removeStale(base, set, files);
  }

  tree(): Tree {
    return localTree(this.where);
  }

  async remove(paths: readonly string[]): Promise<void> {
    for (const path of paths) await rm(this.#at(path), { force: true });
  }
}

/**
 * A folder of this machine, which any web server can serve. Sums and signature are links through `.current` into a folder that holds both, so
 * that one rename replaces both; images are hard links to staged files, so that a name appears with all its bytes or not at all.
 */
export function localDestination(dir: string): Destination {
  return new LocalDestination(dir);
}
