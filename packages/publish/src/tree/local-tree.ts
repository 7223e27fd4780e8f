import { readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { hashFile, UserError } from '@flatcar/core/engine';
import type { Tree } from './tree.ts';

/** Reads a file; undefined if it is missing. Throws a UserError for one that is larger than `limit` bytes. */
async function readWithin(file: string, limit: number | undefined): Promise<Buffer | undefined> {
  try {
    if (limit !== undefined && (await stat(file)).size > limit)
      throw new UserError(`the file is larger than ${limit} bytes`, { where: file, next: 'do not trust this tree' });
    return await readFile(file);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/** A published tree in a folder of this machine. */
export function localTree(dir: string): Tree {
  const root = resolve(dir);
  return {
    where: root,
    read: (path, limit) => readWithin(join(root, path), limit),
    async file(path, { sha256 }) {
      const file = join(root, path);
      const actual = await hashFile(file).catch((cause: unknown) => {
        throw new UserError('the tree lacks a file that belongs to it', { where: file, cause });
      });
      if (actual !== sha256) throw new UserError('the file does not match the signed index', { where: file });
      return file;
    },
  };
}
