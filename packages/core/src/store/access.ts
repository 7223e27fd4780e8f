import { randomBytes } from 'node:crypto';
import { chmod, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describeErrno } from '../util/errno.ts';
import { UserError } from '../util/errors.ts';
import { makeFolder } from '../util/files.ts';
import { throwIfInterrupted } from '../util/interrupt.ts';
import { openLock, take, usersOf, withLock, type LockFile } from '../util/locks.ts';
import { removeAbandoned, TEMPORARY, withTemporaryFolder } from '../util/temporary.ts';
import { listOf, missing, namesIn, type StoreLayout } from './layout.ts';

/** Removes a tree, including folders that their owner may not write to (Go's module cache). */
async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (!['EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    await chmod(path, 0o700);
    for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
      // readdir opens folders as it goes, so it may miss one below an unreadable folder; those are not ours.
      if (entry.isDirectory()) await chmod(join(entry.parentPath, entry.name), 0o700);
    }
    await rm(path, { recursive: true, force: true });
  }
}

/** The error for a store that cannot be opened: names the setting, and keeps the reason. Undefined for our own defects. */
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

// Every process that uses a store holds a shared lock on it, so that prune (which takes it alone) never removes what is in use.
const users = new Map<string, Promise<LockFile>>();

const ownName = (): string => `${process.pid}-${randomBytes(8).toString('hex')}`;

/** Locks and temporary folders of a store. */
export class StoreAccess {
  private readonly layout: StoreLayout;
  constructor(layout: StoreLayout) {
    this.layout = layout;
  }

  /** Must come first in whatever touches the store. The first user alone removes what killed processes left. */
  async use(): Promise<LockFile> {
    const { root } = this.layout;
    const begun = users.get(root);
    if (begun !== undefined) return begun;
    const beginning = this.begin().catch((error: unknown) => {
      throw unusable(root, error) ?? error;
    });
    users.set(root, beginning);
    beginning.catch(() => users.delete(root));
    return beginning;
  }

  private async begin(): Promise<LockFile> {
    const { temp, results, partials, inUse } = this.layout;
    const lock = await openLock(inUse);
    try {
      if (lock.tryTake(false)) {
        await removeTree(temp);
        for (const kind of await namesIn(results)) await removeAbandoned(join(results, kind), TEMPORARY);
      }
      await take(lock, inUse, true);
      await makeFolder(partials);
      return lock;
    } catch (error) {
      lock.close();
      throw error;
    }
  }

  /** Runs `fn` while no other process uses the store. Throws a UserError that names those that do. */
  async alone<T>(fn: () => Promise<T>): Promise<T> {
    const { root, inUse } = this.layout;
    const own = await this.use();
    if (!own.tryTake(false)) {
      const others = (await usersOf(inUse)).slice(0, 3).join(', ');
      throw new UserError(`the cache is in use by ${others || 'another process'}`, {
        where: root,
        next: 'run this again when that has ended',
      });
    }
    own.sign();
    try {
      return await fn();
    } finally {
      own.tryTake(true);
    }
  }

  async lock<T>(name: string, fn: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await this.use();
    return withLock(this.layout.lock(name), fn, signal);
  }

  async withTemp<T>(fn: (dir: string) => Promise<T>): Promise<T> {
    throwIfInterrupted();
    await this.use();
    const dir = join(this.layout.temp, ownName());
    try {
      await makeFolder(dir, 0o700); // setuid files of unpacked images may be in it
      return await withTemporaryFolder(dir, () => fn(dir));
    } finally {
      await removeTree(dir);
    }
  }

  /** Removes an entry in one step, so that nobody sees half of it; the list of a result goes first, without which there is no result. */
  async discard(path: string): Promise<void> {
    await rm(listOf(path), { force: true });
    await makeFolder(this.layout.temp);
    const away = join(this.layout.temp, ownName());
    await rename(path, away).catch(missing);
    await removeTree(away);
  }

  /** Removes temporary folders of other processes; only while the store is used by this process alone. */
  async removeLeftovers(): Promise<void> {
    const { temp } = this.layout;
    for (const name of await namesIn(temp)) if (!name.startsWith(`${process.pid}-`)) await removeTree(join(temp, name));
  }
}
