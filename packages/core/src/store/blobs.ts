import { chmod, copyFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fsync, hashFile, makeFolder } from '../util/files.ts';
import type { StoreAccess } from './access.ts';
import { DigestError } from './digest-error.ts';
import { hashOnce, rememberDigest } from './file-digests.ts';
import { missing, type StoreLayout } from './layout.ts';

/** A use within this time after another, in milliseconds, is not recorded. */
const TOUCH_MS = 3_600_000;

/** Records a use: prune goes by the access time, which is set explicitly because most systems mount with noatime or relatime. */
export async function touch(path: string): Promise<void> {
  const { atimeMs, mtime } = await stat(path);
  if (Date.now() - atimeMs > TOUCH_MS) await utimes(path, new Date(), mtime);
}

/** Files by their digests. */
export class Blobs {
  private readonly layout: StoreLayout;
  private readonly access: StoreAccess;
  constructor(layout: StoreLayout, access: StoreAccess) {
    this.layout = layout;
    this.access = access;
  }

  /** Whether a blob has its digest; undefined if it does not exist. */
  async isWhole(sha256: string): Promise<boolean | undefined> {
    return hashOnce(this.layout.blob(sha256)).then((actual) => actual === sha256, missing);
  }

  /** See Store.blob. */
  async find(sha256: string): Promise<string | undefined> {
    await this.access.use();
    const path = this.layout.blob(sha256);
    const whole = await this.isWhole(sha256);
    if (whole === undefined) return undefined;
    if (!whole) {
      // Checked again under the lock: another process may have replaced it.
      const repaired = await this.access.lock(`blob-${sha256}`, async () => {
        if ((await this.isWhole(sha256)) === true) return true;
        await this.access.discard(path);
        return false;
      });
      if (!repaired) return undefined;
    }
    await touch(path);
    return path;
  }

  /** See Store.keep. */
  async keep(file: string, expected?: string): Promise<{ path: string; sha256: string; size: number }> {
    await this.access.use();
    const sha256 = await hashOnce(file);
    if (expected !== undefined && sha256 !== expected)
      throw new DigestError(`wrong sha256: expected ${expected}, got ${sha256}`, { where: file });
    const path = this.layout.blob(sha256);
    await makeFolder(dirname(path));
    await this.access.lock(`blob-${sha256}`, async () => {
      await this.moveIn(file, path, sha256);
      await fsync(dirname(path));
      await rememberDigest(path, sha256);
    });
    return { path, sha256, size: (await stat(path)).size };
  }

  /** Moves a file to its place, by way of a copy if it is on another file system. */
  private async moveIn(file: string, path: string, sha256: string): Promise<void> {
    const move = async (from: string): Promise<void> => {
      await chmod(from, 0o444);
      await fsync(from);
      await rename(from, path);
    };
    try {
      await move(file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error;
      await this.access.withTemp(async (dir) => {
        const copy = join(dir, sha256);
        await copyFile(file, copy);
        if ((await hashFile(copy)) !== sha256) throw new Error(`${file} changed while it was copied`, { cause: error });
        await move(copy);
      });
      await rm(file);
    }
  }
}
