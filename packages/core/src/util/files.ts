import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, copyFile, lstat, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { eachChunk } from './chunks.ts';
import { UserError } from './errors.ts';
import { temporaryBeside } from './temporary.ts';
import { inThread, isWorthAThread } from './threads.ts';

/** Digests of a file's content (hex) by several algorithms, in one reading. Large files are read by another thread. */
export async function digestsOf<T extends string>(path: string, algorithms: readonly T[]): Promise<Record<T, string>> {
  const handle = await open(path, 'r');
  try {
    if (isWorthAThread((await handle.stat()).size))
      return (await inThread(import.meta.url, 'digestsOf', path, algorithms)) as Record<T, string>;
    const hashes = algorithms.map((algorithm) => [algorithm, createHash(algorithm)] as const);
    await eachChunk(handle, { start: 0, end: Infinity }, (chunk) => hashes.forEach(([, hash]) => hash.update(chunk)));
    return Object.fromEntries(hashes.map(([algorithm, hash]) => [algorithm, hash.digest('hex')])) as Record<T, string>;
  } finally {
    await handle.close();
  }
}

/** Digest of a file's content, hex. */
export async function hashFile(path: string, algorithm = 'sha256'): Promise<string> {
  return (await digestsOf(path, [algorithm]))[algorithm] ?? '';
}

/** Makes the content of a file, or the names in a folder, survive a crash. */
export async function fsync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Makes a file, folder or link under a temporary name beside `path`, and renames it in one step: readers see the complete old or the complete
 * new content. `make` and an fsync of the folder must make it survive a crash. The next process that writes in the same folder removes what a
 * killed process left.
 */
export async function replaceFile(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = await temporaryBeside(path);
  try {
    await make(temporary);
    await rename(temporary, path);
  } catch (error) {
    // A failure on an open file (a full disk, a limit) names no path.
    const failed = error as NodeJS.ErrnoException;
    if (failed.syscall !== undefined && (failed.path === undefined || failed.path === temporary)) failed.path = path;
    throw error;
  } finally {
    // It exists after a failure, and if both names were the same file: then rename(2) does nothing.
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Writes a file so that after a crash it has its complete old or new content. `mode` applies under any umask. */
export async function writeAtomic(path: string, data: string | Buffer, mode?: number): Promise<void> {
  await replaceFile(path, async (temporary) => {
    const handle = await open(temporary, 'wx', mode);
    try {
      if (mode !== undefined) await handle.chmod(mode);
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
  });
  await fsync(dirname(path));
}

/** Modes of published files and folders: everybody can read them, their owner can write. */
export const PUBLIC_FILE = 0o644;
export const PUBLIC_FOLDER = 0o755;

const errnoOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

/**
 * Sets the mode that others need to read a file or a folder, whatever the umask was. Leaves a symbolic link unchanged.
 * `add` keeps the other bits, such as a group's permission to write.
 * Throws a UserError if the mode cannot be set: another user's file, or a file system without modes.
 */
export async function makePublic(path: string, add = false): Promise<void> {
  const before = await lstat(path);
  if (before.isSymbolicLink()) return;
  const wanted = before.isDirectory() ? PUBLIC_FOLDER : PUBLIC_FILE;
  // A folder keeps the bit by which its files inherit its group.
  const mode = (before.isDirectory() ? before.mode & 0o7000 : 0) | (add ? (before.mode & 0o777) | wanted : wanted);
  if ((before.mode & 0o7777) === mode) return;
  const refuse = (cause?: unknown): never => {
    throw new UserError(`others cannot read it: its mode is ${(before.mode & 0o7777).toString(8)}`, {
      where: path,
      next: `as its owner (uid ${before.uid}) run: chmod ${wanted.toString(8)} '${path}'; some file systems (FAT, CIFS) take modes at mount only`,
      cause,
    });
  };
  await chmod(path, mode).catch((error: unknown) => {
    if (!['EPERM', 'EROFS', 'ENOTSUP'].includes(errnoOf(error))) throw error;
    if ((before.mode & wanted) !== wanted) refuse(error);
  });
  if (((await lstat(path)).mode & wanted) !== wanted) refuse();
}

/**
 * Makes a folder and the missing ones above it; returns those that it made, uppermost first. If a folder cannot be made, it fails at once with the
 * errno of mkdir(2), unlike mkdir's own `recursive`, which never ends in /proc.
 */
export async function makeFolder(path: string, mode?: number): Promise<string[]> {
  const missing: string[] = [];
  const made: string[] = [];
  let at = resolve(path);
  for (; ; at = dirname(at)) {
    try {
      await mkdir(at, mode);
      made.push(at);
      break;
    } catch (error) {
      if (errnoOf(error) === 'EEXIST' && (await stat(at)).isDirectory()) break;
      // The folder above is missing; if only this one cannot be made, the loop below fails.
      if (errnoOf(error) !== 'ENOENT' || at === dirname(at)) throw error;
      missing.push(at);
    }
  }
  for (const folder of missing.toReversed()) {
    try {
      await mkdir(folder, mode);
      made.push(folder);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error; // made by another process at the same time
    }
  }
  return made;
}

/**
 * Makes a folder, and the missing ones above it, readable by others under any umask. Existing folders are left unchanged, except from `within`
 * down. Returns the folders that it made, uppermost first. Throws as makeFolder does.
 */
export async function mkdirPublic(path: string, within?: string): Promise<string[]> {
  const made = await makeFolder(path, PUBLIC_FOLDER);
  for (const folder of made) await makePublic(folder);
  if (within === undefined) return made;
  const root = resolve(within);
  for (let folder = resolve(path); folder.length >= root.length; folder = dirname(folder)) {
    await makePublic(folder, true);
    if (folder === root) break;
  }
  return made;
}

/**
 * Copies a file so that its owner can write the copy and everybody can read it: blobs of the store are 0444, and copyFile(3) keeps modes.
 * `flags` are those of fs.copyFile; file systems that support it make a copy on write.
 */
export async function copyPublic(from: string, to: string, flags = 0): Promise<void> {
  await copyFile(from, to, flags | constants.COPYFILE_FICLONE);
  await makePublic(to);
}
