import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, copyFile, lstat, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { UserError } from './errors.ts';
import { throwIfInterrupted } from './interrupt.ts';
import { temporaryBeside } from './temporary.ts';

const CHUNK = 1 << 20;

/** Digests of a file's content (hex) by several algorithms, in one reading. */
export async function digestsOf<T extends string>(path: string, algorithms: readonly T[]): Promise<Record<T, string>> {
  const hashes = algorithms.map((algorithm) => [algorithm, createHash(algorithm)] as const);
  const handle = await open(path, 'r');
  const { size } = await handle.stat();
  // As large as the file needs: thousands of small files would each take, and give back, a megabyte.
  const highWaterMark = Math.min(CHUNK, Math.max(size, 4096));
  for await (const chunk of handle.createReadStream({ highWaterMark })) {
    throwIfInterrupted();
    for (const [, hash] of hashes) hash.update(chunk as Buffer);
  }
  return Object.fromEntries(hashes.map(([algorithm, hash]) => [algorithm, hash.digest('hex')])) as Record<T, string>;
}

/** Digest of a file's content, hex. */
export async function hashFile(path: string, algorithm = 'sha256'): Promise<string> {
  return (await digestsOf(path, [algorithm]))[algorithm] ?? '';
}

/** Has what was written to a file, or the names in a folder, survive a crash. */
export async function fsync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Makes a file, folder or link under a temporary name beside `path`, and gives it that name in one step: whoever looks sees what was there
 * before, or all that is new. That it survives a crash is up to `make` and an fsync of the folder. What a killed process leaves is removed by
 * the next that writes in the same folder.
 */
export async function replaceFile(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = await temporaryBeside(path);
  try {
    await make(temporary);
    await rename(temporary, path);
  } catch (error) {
    // What fails on an open file (a full disk, a limit) names none.
    const failed = error as NodeJS.ErrnoException;
    if (failed.syscall !== undefined && (failed.path === undefined || failed.path === temporary)) failed.path = path;
    throw error;
  } finally {
    // Left by a failure, and where both were one file already: then rename(2) does nothing.
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Writes a file so that after a crash it has its old or its new content, whole. With `mode` it has that mode under any umask. */
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

/** Modes of what is published or handed to others: everybody reads it, its owner writes it. */
export const PUBLIC_FILE = 0o644;
export const PUBLIC_FOLDER = 0o755;

const errnoOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

/**
 * Gives a file or a folder the mode that others need to read it, whatever the umask of whoever made it. A symbolic link is left as it is.
 * `add` keeps the other bits: a folder that a group may write stays so.
 * Throws a UserError where the mode cannot be set: somebody else's file, or a file system that keeps no modes.
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
 * Makes a folder and those above it that are missing; gives those that it made, uppermost first. Unlike mkdir's own `recursive`, which
 * asks /proc for ever, it fails at once where a folder cannot be made, with the errno of mkdir(2).
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
      // The folder above is missing; where that can be made and this cannot, the loop below says so.
      if (errnoOf(error) !== 'ENOENT' || at === dirname(at)) throw error;
      missing.push(at);
    }
  }
  for (const folder of missing.toReversed()) {
    try {
      await mkdir(folder, mode);
      made.push(folder);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error; // made by another at the same time
    }
  }
  return made;
}

/**
 * Makes a folder, and those above it that are missing, readable by others under any umask; what is there already is left as it is, but
 * from `within` down it is made public, too. Gives the folders that it made, uppermost first. Fails at once where a folder cannot be made
 * (/proc/x), with the errno of mkdir(2).
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
 * `flags` are those of fs.copyFile; a copy on write is made where the file system can.
 */
export async function copyPublic(from: string, to: string, flags = 0): Promise<void> {
  await copyFile(from, to, flags | constants.COPYFILE_FICLONE);
  await makePublic(to);
}
