import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mapParallel, parseSums, hasCode } from '@flatcar/core/engine';
import { ConflictError, type Destination } from '../destinations/destination.ts';
import { SUMS } from '../tree/layout.ts';
import { foldersOf } from '../tree/folders.ts';
import { readPublished } from '../tree/state.ts';
import type { Trust } from '../tree/trusted.ts';

/** Time that a server may need between comparing and replacing, in milliseconds. */
const SETTLING_MS = 300;

/**
 * Checks a tree without a lock after a publish: the index lists the images at `paths`, and the sums of the extensions' folders agree with the
 * index. Throws a ConflictError if another publisher overwrote this publish with an older state; the next attempt enters what is missing.
 */
export async function checkServed(
  destination: Destination,
  trust: Trust,
  { names, paths }: { names: readonly string[]; paths: ReadonlySet<string> },
): Promise<void> {
  await sleep(SETTLING_MS * (1 + Math.random()));
  const published = await readPublished(destination, trust).catch((error: unknown) => {
    throw hasCode(error, 'bad-signature') ? new ConflictError(destination.where) : error;
  });
  const folders = new Map<string, { path: string; sha256: string }[]>();
  const images = new Set<string>();
  for (const name of names) {
    const index = await published.extension(name);
    for (const { path } of index?.versions.flatMap((version) => version.images) ?? []) images.add(path);
    for (const [folder, listed] of index === undefined ? [] : foldersOf(index)) folders.set(folder, listed);
  }
  for (const { extension, path, sha256, image } of await published.packages())
    if (names.includes(extension)) folders.set(dirname(path), [...(folders.get(dirname(path)) ?? []), { path, sha256 }, image]);
  if ([...paths].some((path) => !images.has(path))) throw new ConflictError(destination.where);
  await mapParallel(
    [...folders],
    async ([folder, listed]) => {
      const path = `${folder}/${SUMS}`;
      const sums = parseSums((await destination.read(path))?.toString() ?? '', path);
      if (listed.some((file) => sums.get(basename(file.path)) !== file.sha256)) throw new ConflictError(`${destination.where}/${path}`);
    },
    8,
  );
}
