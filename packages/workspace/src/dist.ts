import { access, constants, rename, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder, ownedName, removeAbandoned } from '@flatcar/core/engine';

const errnoOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

/** Puts a folder in the place of another. Of several that do so at once the last one's is left, whole. */
async function putInPlace(fresh: string, place: string): Promise<void> {
  const away = `${fresh}.before`;
  for (let tries = 0; ; tries += 1) {
    try {
      await rename(fresh, place);
      break;
    } catch (error) {
      if (tries > 100 || !['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errnoOf(error))) throw error;
    }
    await rename(place, away).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error; // another took it away first
    });
    await rm(away, { recursive: true, force: true });
  }
}

/**
 * Has `fill` make the content of `dir/dist` in a folder beside it, which takes the place of dist/ at the end: after a failure dist/ is what
 * it was. Two at once do not disturb each other. The paths that `fill` gives are those below dist/.
 */
export async function replaceDist<T>(dir: string, fill: (folder: string) => Promise<T>): Promise<T> {
  await removeAbandoned(dir, /^\.dist-/);
  const folder = join(dir, `.dist-${ownedName()}`);
  await makeFolder(folder);
  try {
    const result = await fill(folder);
    await putInPlace(folder, join(dir, 'dist'));
    return result;
  } finally {
    for (const left of [folder, `${folder}.before`]) await rm(left, { recursive: true, force: true });
  }
}

/** Throws before the work begins when a folder for output cannot be made or written to. Leaves nothing that was not there. */
export async function checkOutput(folder: string): Promise<void> {
  const made = await makeFolder(folder);
  try {
    await access(folder, constants.W_OK);
  } finally {
    for (const path of made.toReversed()) await rmdir(path).catch(() => undefined); // another may use it by now
  }
}
