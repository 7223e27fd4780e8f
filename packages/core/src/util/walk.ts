import { constants } from 'node:fs';
import { chmod, copyFile, lstat, mkdir, readdir, readlink, realpath, symlink } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { UserError } from './errors.ts';
import { throwIfInterrupted } from './interrupt.ts';

/** An entry of a folder. */
export interface WalkEntry {
  /** Relative to the folder that was walked. */
  readonly path: string;
  /** On disk. */
  readonly full: string;
  readonly name: string;
  /** `special` is a FIFO, a socket or a device: opening one may block for ever. */
  readonly type: 'file' | 'dir' | 'link' | 'special';
}

/**
 * Everything below a folder, sorted by path, without following links: readdir's own `recursive` follows them, and so leaves the folder and loops;
 * fs.glob follows one. All code in this repository walks folders by this function.
 * Throws the errno of readdir(2).
 */
export async function walk(dir: string): Promise<WalkEntry[]> {
  const found: WalkEntry[] = [];
  const folders = [''];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    throwIfInterrupted();
    for (const entry of await readdir(join(dir, folder), { withFileTypes: true })) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      const type = entry.isDirectory() ? 'dir' : entry.isSymbolicLink() ? 'link' : entry.isFile() ? 'file' : 'special';
      found.push({ path, full: join(dir, path), name: entry.name, type });
      if (type === 'dir') folders.push(path);
    }
  }
  return found.toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

/** Throws a UserError for an entry that is not a file, folder or link. */
export function refuseSpecial({ path, full, type }: WalkEntry): void {
  if (type === 'special')
    throw new UserError(`'${path}' is not a file, folder or link`, {
      where: full,
      next: 'remove it, or the step that makes it: images contain nothing else',
    });
}

/** Files and links below a folder, sorted by path; links are not followed. Throws a UserError for a FIFO, a socket or a device. */
export async function filesBelow(dir: string): Promise<WalkEntry[]> {
  const entries = await walk(dir);
  entries.forEach(refuseSpecial);
  return entries.filter(({ type }) => type !== 'dir');
}

/**
 * Copies a folder with its modes and links, without following links. `to` must not exist; the folders above it may be
 * missing. Throws a UserError for a FIFO, a socket or a device.
 */
export async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await mkdir(to);
  const folders: (readonly [string, number])[] = [[to, (await lstat(from)).mode]];
  for (const entry of await walk(from)) {
    refuseSpecial(entry);
    throwIfInterrupted();
    const target = join(to, entry.path);
    if (entry.type === 'link') await symlink(await readlink(entry.full), target);
    else if (entry.type === 'file') await copyFile(entry.full, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    else {
      await mkdir(target, 0o700);
      folders.push([target, (await lstat(entry.full)).mode]);
    }
  }
  // Last, because a folder may have a mode that does not allow its owner to write.
  for (const [folder, mode] of folders.toReversed()) await chmod(folder, mode & 0o777);
}

/** The real location of a path in a tree, with links followed on this machine; undefined if it is outside or does not exist. */
export async function insideTree(root: string, path: string): Promise<string | undefined> {
  const [base, full] = await Promise.all([realpath(root), realpath(join(root, path)).catch(() => undefined)]);
  return full === base || full?.startsWith(base + sep) === true ? full : undefined;
}
