import { stat } from 'node:fs/promises';
import { hashFile } from '../util/files.ts';

// Digests by the identity of a file, not by its path: a rename does not change content.
const hashed = new Map<string, string>();

async function identityOf(path: string): Promise<{ id: string; settled: boolean }> {
  const { dev, ino, size, mtimeMs, mtimeNs } = await stat(path, { bigint: true });
  // Times tick in steps of milliseconds: a file written just now may be written again under the same time.
  return { id: `${dev} ${ino} ${size} ${mtimeNs}`, settled: Date.now() - Number(mtimeMs) > 100 };
}

/** Digest of a file of the store; this process reads a file once. */
export async function hashOnce(path: string): Promise<string> {
  const { id, settled } = await identityOf(path);
  const known = hashed.get(id);
  if (known !== undefined) return known;
  const sha256 = await hashFile(path);
  if (settled) hashed.set(id, sha256);
  return sha256;
}

/** Remembers the digest of a file that nobody writes to any more. */
export async function rememberDigest(path: string, sha256: string): Promise<void> {
  hashed.set((await identityOf(path)).id, sha256);
}

/** Forgets all digests, so that all files are read again. */
export const forgetDigests = (): void => hashed.clear();
