import { access, constants, rename, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder, ownedName, removeAbandoned } from '@flatcar/core/engine';

const errnoOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

/** Replaces a folder by another. If several processes do so at once, the folder of the last one remains, complete. */
async function replaceFolder(fresh: string, place: string): Promise<void> {
  const away = `${fresh}.before`;
  for (let tries = 0; ; tries += 1) {
    try {
      await rename(fresh, place);
      break;
    } catch (error) {
      if (tries > 100 || !['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errnoOf(error))) throw error;
    }
    await rename(place, away).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error; // another process moved it first
    });
    await rm(away, { recursive: true, force: true });
  }
}

/**
 * Lets `fill` write to a temporary folder beside `dir/dist`, which then replaces dist/. After a failure dist/ is unchanged. Several processes
 * may do so at once.
 */
export async function replaceDist<T>(dir: string, fill: (folder: string) => Promise<T>): Promise<T> {
  await removeAbandoned(dir, /^\.dist-/);
  const folder = join(dir, `.dist-${ownedName()}`);
  await makeFolder(folder);
  try {
    const result = await fill(folder);
    await replaceFolder(folder, join(dir, 'dist'));
    return result;
  } finally {
    for (const left of [folder, `${folder}.before`]) await rm(left, { recursive: true, force: true });
  }
}

/** Throws if an output folder cannot be made or written to. Leaves no folder that did not exist before. */
export async function checkOutput(folder: string): Promise<void> {
  const made = await makeFolder(folder);
  try {
    await access(folder, constants.W_OK);
  } finally {
    for (const path of made.toReversed()) await rmdir(path).catch(() => undefined); // another process may use it by now
  }
}
