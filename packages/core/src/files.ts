import { createHash, randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

const CHUNK = 1 << 20;

/** Digests of a file's content (hex) by several algorithms, in one reading. */
export async function digestsOf<T extends string>(path: string, algorithms: readonly T[]): Promise<Record<T, string>> {
  const hashes = algorithms.map((algorithm) => [algorithm, createHash(algorithm)] as const);
  const handle = await open(path, 'r');
  const { size } = await handle.stat();
  // As large as the file needs: thousands of small files would each take, and give back, a megabyte.
  const highWaterMark = Math.min(CHUNK, Math.max(size, 4096));
  for await (const chunk of handle.createReadStream({ highWaterMark })) for (const [, hash] of hashes) hash.update(chunk as Buffer);
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
 * before, or all that is new. That it survives a crash is up to `make` and an fsync of the folder.
 */
export async function replaceFile(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${path}.${randomBytes(8).toString('hex')}.tmp`;
  try {
    await make(temporary);
    await rename(temporary, path);
  } finally {
    // Left by a failure, and where both were one file already: then rename(2) does nothing.
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Writes a file so that after a crash it has its old or its new content, whole. */
export async function writeAtomic(path: string, data: string | Buffer): Promise<void> {
  await replaceFile(path, async (temporary) => {
    const handle = await open(temporary, 'wx');
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
  });
  await fsync(dirname(path));
}
