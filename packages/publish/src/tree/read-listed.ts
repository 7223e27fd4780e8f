import { UserError } from '@flatcar/core/engine';
import { sha256Of } from './digest.ts';
import type { Source } from './tree.ts';

/** Reads a small file that belongs to a tree. Throws if it is missing. */
export async function readRequired(source: Source, path: string): Promise<Buffer> {
  const bytes = await source.read(path);
  if (bytes === undefined) throw new UserError('the tree lacks a file that belongs to it', { where: `${source.where}/${path}` });
  return bytes;
}

/** Reads a small file that a signed index lists. Throws if it is missing or has another digest (sha256, hex). */
export async function readListed(source: Source, path: string, sha256: string): Promise<Buffer> {
  const bytes = await readRequired(source, path);
  if (sha256Of(bytes) !== sha256)
    throw new UserError('the file does not match the signed index', {
      where: `${source.where}/${path}`,
      next: 'try again, the tree may be changing; if the error persists, do not trust this tree',
    });
  return bytes;
}
