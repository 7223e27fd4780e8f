import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { hashFile, UserError } from '@flatcar/core/engine';
import type { Tree } from './tree.ts';

/** A published tree in a folder of this machine. */
export function localTree(dir: string): Tree {
  const root = resolve(dir);
  return {
    where: root,
    read: (path) =>
      readFile(join(root, path)).catch((error: unknown) => {
        if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
        throw error;
      }),
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
