import { createHash } from 'node:crypto';
import { link, mkdir, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fsync, hashFile, mapParallel, replaceFile, UserError, withLock } from '@flatcar/core';
import { openTree } from './tree.ts';
import { TakenError, type Destination, type FileAbout } from './destination.ts';

const LOCK = '.publish.lock';
const STAGING = '.staging';
/** Link to the folder that holds what is served now of the files that belong together. */
const CURRENT = '.current';

const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');
const missing = (error: unknown): undefined => {
  if (isMissing(error)) return undefined;
  throw error;
};

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
  const settle = async (): Promise<void> => {
    const folders = [...changed];
    changed.clear();
    await mapParallel(folders, fsync, 4);
  };
  return {
    where: root,
    locks: true,
    async publish(fn) {
      await mkdir(root, { recursive: true }).catch((cause: unknown) => {
        throw new UserError('the folder cannot be made', { where: root, cause });
      });
      return withLock(at(LOCK), async () => {
        await mkdir(at(STAGING), { recursive: true });
        const result = await fn(at(STAGING));
        // Left only by a publish that failed or was killed, for the next to go on from.
        await rm(at(STAGING), { recursive: true, force: true });
        return result;
      });
    },
    read: (path) => readFile(at(path)).catch(missing),
    async put(path, file, { size, sha256 }: FileAbout) {
      const target = at(path);
      await mkdir(dirname(target), { recursive: true });
      try {
        await link(file, target);
        changed.add(dirname(target));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        if ((await stat(target)).size !== size || (await hashFile(target)) !== sha256) throw new TakenError(target, path);
      }
    },
    async putOver(path, file) {
      const target = at(path);
      await mkdir(dirname(target), { recursive: true });
      await replaceFile(target, (temporary) => link(file, temporary));
      changed.add(dirname(target));
    },
    settle,
    async replace(folder, files) {
      await settle();
      const hash = createHash('sha256');
      for (const [name, bytes] of files) hash.update(`${name} ${bytes.length}\n`).update(bytes);
      const set = `.set-${hash.digest('hex').slice(0, 32)}`;
      const [base, made] = [at(folder), join(at(folder), set)];
      await replaceFile(made, async (fresh) => {
        await mkdir(fresh, { recursive: true });
        for (const [name, bytes] of files) {
          await writeFile(join(fresh, name), bytes);
          await fsync(join(fresh, name));
        }
        await fsync(fresh);
      }).catch((error: unknown) => {
        // The same set may be there already, whole: its name is its content.
        if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      });
      await linkTo(set, join(base, CURRENT));
      // Only for the first time, and the signature first: who sees sums must find it.
      for (const name of [...files.keys()].toReversed()) await linkTo(`${CURRENT}/${name}`, join(base, name));
      await fsync(base);
      for (const name of await readdir(base)) {
        if (name !== set && /^\.set-|\.tmp$/.test(name)) await rm(join(base, name), { recursive: true, force: true });
      }
    },
    tree: (store, report) => openTree(root, store, report),
    async remove(paths) {
      for (const path of paths) await rm(at(path), { force: true });
    },
  };
}
