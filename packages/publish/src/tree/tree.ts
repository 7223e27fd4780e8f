import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fetchBlob, hashFile, UserError, type Report, type Store } from '@flatcar/core/engine';
import type { FileAbout } from '../destinations/destination.ts';
import { httpSource } from './http-source.ts';
import { urlPath } from './layout.ts';
import type { Source } from './state.ts';

/** A published tree that is read: small files as they come, large ones only with the digest that they must have. */
export interface Tree extends Source {
  /** Path of a local file with these very bytes; it belongs to the tree or to the store and must not be changed. */
  file(path: string, about: FileAbout): Promise<string>;
}

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
        throw new UserError('the index lists a file that is not there', { where: file, cause });
      });
      if (actual !== sha256) throw new UserError('the file is not the one that the signed index lists', { where: file });
      return file;
    },
  };
}

/** A published tree on a web server. */
export function remoteTree(url: string, store: Store, report: Report | undefined, signal?: AbortSignal): Tree {
  const source = httpSource(url, { signal });
  return {
    ...source,
    file: (path, { size, sha256 }) => fetchBlob(store, { url: `${source.where}/${urlPath(path)}`, sha256, size }, { report, signal }),
  };
}
