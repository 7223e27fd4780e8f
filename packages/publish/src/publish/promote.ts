import { mapParallel } from '@flatcar/core/engine';
import { ConflictError, TakenError, type Destination } from '../destinations/destination.ts';
import { METADATA } from '../tree/layout.ts';
import type { PublicKeys } from './public-keys.ts';
import type { ExtensionIndex } from '../tree/schema.ts';
import type { Staged, StagedImage } from './stage.ts';
import { extensionFeed, FEED } from '../tree/reader-files.ts';
import { transferFolders } from '../tree/transfer.ts';

/** Everything that becomes visible, staged, checked and signed. */
export interface Promotion {
  readonly images: readonly StagedImage[];
  /** Of the official layout. */
  readonly official: readonly Staged[];
  readonly deltas: readonly Staged[];
  readonly keys: PublicKeys;
  readonly baseUrl: string;
  /** Files of each folder's sums. */
  readonly sums: ReadonlyMap<string, ReadonlyMap<string, Buffer>>;
  /** Extensions whose transfer files may differ. */
  readonly extensions: Iterable<ExtensionIndex>;
  /** Files that the index lists. */
  readonly listed: readonly Staged[];
  /** The index under the name by which clients read it, targets and snapshot, staged; empty if they stay. */
  readonly state: readonly Staged[];
  /** index.json for people, what follows from it, and the catalogue page. */
  readonly root: ReadonlyMap<string, Buffer>;
  /** The timestamp; undefined if it stays. */
  readonly timestamp: Buffer | undefined;
  /** Roots that the tree does not have yet. */
  readonly roots: readonly Staged[];
}

/** Replaces the files of a folder if one of them differs from the published one. */
async function replaceChanged(destination: Destination, folder: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  const served = await Promise.all(
    [...files].map(async ([name, bytes]) => (await destination.read(folder === '' ? name : `${folder}/${name}`))?.equals(bytes) === true),
  );
  if (!served.every(Boolean)) await destination.replace(folder, files);
}

/** Places metadata of the next state. Without a lock, another publisher may have taken the version since it was chosen. */
async function putState(destination: Destination, { path, from, ...about }: Staged): Promise<void> {
  await destination.put(path, from, about).catch((error: unknown) => {
    throw error instanceof TakenError && !destination.locks ? new ConflictError(`${destination.where}/${path}`) : error;
  });
}

/**
 * Makes everything visible: first files that nothing refers to yet, then the files that refer to them. The timestamp comes last and makes the
 * new state the current one. A new root follows: until then the state is trusted by the former root, if its keys are at hand.
 */
export async function promote(destination: Destination, all: Promotion): Promise<void> {
  await mapParallel(
    all.images,
    async ({ image, sidecars }) => {
      // No index and no sums list these files: sums were compared when they were signed.
      for (const file of [...sidecars, image]) await destination.putOver(file.path, file.from, file);
    },
    4,
  );
  // In the same order for all publishers: otherwise two could wait for each other's names.
  for (const file of all.official.toSorted((a, b) => (a.path < b.path ? -1 : 1))) await destination.putOver(file.path, file.from, file);
  for (const file of all.deltas) await destination.put(file.path, file.from, file);
  await destination.flush();
  await replaceChanged(destination, 'keys', all.keys.files);
  await destination.remove(all.keys.dropped);
  for (const [folder, files] of all.sums) await destination.replace(folder, files);
  for (const extension of all.extensions) {
    for (const [folder, files] of transferFolders(extension, all.baseUrl)) await replaceChanged(destination, folder, files);
    await replaceChanged(destination, extension.name, new Map([[FEED, extensionFeed(extension, all.baseUrl)]]));
  }
  for (const file of all.listed) await destination.put(file.path, file.from, file);
  for (const file of all.state) await putState(destination, file);
  await destination.flush();
  await replaceChanged(destination, '', all.root);
  if (all.timestamp !== undefined) await destination.replace(METADATA, new Map([['timestamp.json', all.timestamp]]));
  for (const file of all.roots) await destination.put(file.path, file.from, file);
  await destination.flush();
}
