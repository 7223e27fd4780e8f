import { createHash, type Hash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { eachChunk } from '../util/chunks.ts';
import { inThread, isWorthAThread } from '../util/threads.ts';

/** The digests of an image, in hex. */
export interface ImageDigests {
  readonly sha256: string;
  readonly sha512: string;
}

async function update(hashes: readonly Hash[], file: string, start: number, end: number): Promise<void> {
  const handle = await open(file, 'r');
  try {
    await eachChunk(handle, { start, end }, (chunk) => hashes.forEach((hash) => hash.update(chunk)));
  } finally {
    await handle.close();
  }
}

/** Digests of images whose first `common` bytes are the same: these are read from the first image only. Large images are read by another thread. */
export async function imageDigests(files: readonly string[], common: number): Promise<ImageDigests[]> {
  const [first] = files;
  if (first === undefined) return [];
  if (isWorthAThread((await stat(first)).size)) return (await inThread(import.meta.url, 'imageDigests', files, common)) as ImageDigests[];
  const [sha256, sha512] = [createHash('sha256'), createHash('sha512')];
  await update([sha256, sha512], first, 0, common);
  const digests: ImageDigests[] = [];
  for (const file of files) {
    const hashes = [sha256.copy(), sha512.copy()] as const;
    await update(hashes, file, common, Infinity);
    digests.push({ sha256: hashes[0].digest('hex'), sha512: hashes[1].digest('hex') });
  }
  return digests;
}
