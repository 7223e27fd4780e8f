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
} from '@flatcar/core/engine';
import { openToOthers } from './open-to-others.ts';
import { localTree } from '../tree/local-tree.ts';
import type { FileAbout } from '../tree/tree.ts';
import { TakenError, type Destination } from './destination.ts';

const LOCK = '.publish.lock';
const STAGING = '.staging';
/** Link to the folder that holds what is served now of the files that belong together. */
const CURRENT = '.current';

const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

/** Makes `path` a link to `target`, whatever it was, in one step. */
async function linkTo(target: string, path: string): Promise<void> {
  if ((await readlink(path).catch(() => undefined)) === target) return;
  await replaceFile(path, (temporary) => symlink(target, temporary));
}

/**
 * A folder of this machine, which any web server can serve. Sums and signature are links through `.current` into a folder that holds
 * both, so that one rename switches both; images are hard links to what was staged, so that a name appears with all its bytes or not at all.
 */
export function localDestination(dir: string): Destination {
  const root = resolve(dir);
  const at = (path: string): string => join(root, path);
  /** Folders with new names that a crash may still undo. */
  const changed = new Set<string>();
  /** Before anything points to what is new, it is made to last: once for each folder, not for each file. */
  const flush = async (): Promise<void> => {
    const folders = [...changed];
    changed.clear();
    await mapParallel(folders, fsync, 4);
  };
  /** Makes a folder of the tree; its name in the folder above must last, too. */
  const makeFolders = async (path: string, within?: string): Promise<void> => {
    for (const folder of await mkdirPublic(path, within)) changed.add(dirname(folder));
  };
  return {
    where: root,
    locks: true,
    async publish(fn) {
      await makeFolders(root).catch((cause: unknown) => {
        throw new UserError(`the folder cannot be made: ${messageOf(cause)}`, {
          where: root,
          next: 'name a folder that you may write',
          cause,
        });
      });
      return withLock(at(LOCK), async () => {
        // What is staged is not served yet.
        await mkdir(at(STAGING), { recursive: true, mode: 0o700 });
        await chmod(at(STAGING), 0o700);
        try {
          return await fn(at(STAGING));
        } catch (error) {
          throw describeErrno(error, root) ?? error; // a failed write to an open file names no path
        } finally {
          // Left only by a publish that was killed, for the next to go on from: it would be served, and fill the disk.
          await rm(at(STAGING), { recursive: true, force: true });
        }
      });
    },
    read: (path) => localTree(root).read(path),
    async isNew() {
      const names: string[] = await readdir(root).catch((error: unknown) => {
        if (isMissing(error)) return [];
        throw error;
      });
      // A first publish that died left its lock, and no link to an index.
      return names.every((name) => [LOCK, STAGING, 'lost+found'].includes(name)) || (names.includes(LOCK) && !names.includes(CURRENT));
    },
    openToOthers: (extensions, report) => openToOthers(root, extensions, report),
    async put(path, file, { size, sha256 }: FileAbout) {
      const target = at(path);
      await makeFolders(dirname(target), root);
      await makePublic(file);
      try {
        await link(file, target);
        changed.add(dirname(target));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        if ((await stat(target)).size !== size || (await hashFile(target)) !== sha256) throw new TakenError(target, path);
        await makePublic(target, true);
      }
    },
    async putOver(path, file) {
      const target = at(path);
      await makeFolders(dirname(target), root);
      await makePublic(file);
      await replaceFile(target, (temporary) => link(file, temporary));
      changed.add(dirname(target));
    },
    flush,
    async replace(folder, files) {
      await flush();
      const hash = createHash('sha256');
      for (const [name, bytes] of files) hash.update(`${name} ${bytes.length}\n`).update(bytes);
      const set = `.set-${hash.digest('hex').slice(0, 32)}`;
      const [base, made] = [at(folder), join(at(folder), set)];
      await makeFolders(base, root);
      await replaceFile(made, async (fresh) => {
        await mkdirPublic(fresh);
        for (const [name, bytes] of files) {
          await writeFile(join(fresh, name), bytes);
          await makePublic(join(fresh, name));
          await fsync(join(fresh, name));
        }
        await fsync(fresh);
      }).catch(async (error: unknown) => {
        // The same set may be there already, by its name; files of it that somebody has changed since are written again.
        if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
        await makePublic(made, true);
        for (const [name, bytes] of files) {
          const path = join(made, name);
          const there = await readFile(path).catch(() => undefined);
          if (there?.equals(bytes) === true) await makePublic(path, true);
          else await writeAtomic(path, bytes, PUBLIC_FILE);
        }
      });
      // The link must not survive a power cut that takes what it leads to.
      changed.add(base);
      await flush();
      await linkTo(set, join(base, CURRENT));
      // Only for the first time, and the signature first: who sees sums must find it.
      for (const name of [...files.keys()].toReversed()) await linkTo(`${CURRENT}/${name}`, join(base, name));
      await fsync(base);
      for (const name of await readdir(base)) {
        const path = join(base, name);
        // A link to what the set before had and this one has not (a transfer file of a withdrawn version) would lead nowhere.
        const isStale = !files.has(name) && (await readlink(path).catch(() => undefined)) === `${CURRENT}/${name}`;
        if (isStale || (name !== set && /^\.set-|\.tmp$/.test(name))) await rm(path, { recursive: true, force: true });
      }
    },
    tree: () => localTree(root),
    async remove(paths) {
      for (const path of paths) await rm(at(path), { force: true });
    },
  };
}
