import { mapParallel } from '@flatcar/core/engine';
import { TakenError, type Destination } from '../destinations/destination.ts';
import type { PublicKeys } from './public-keys.ts';
import type { ExtensionIndex } from '../tree/schema.ts';
import type { Staged, StagedImage } from './stage.ts';
import { transferFolders } from '../tree/transfer.ts';

/** Everything that is to appear, staged, checked and signed. */
export interface Promotion {
  readonly images: readonly StagedImage[];
  /** Of the official layout. */
  readonly official: readonly Staged[];
  readonly keys: PublicKeys;
  readonly baseUrl: string;
  /** Files of each folder's sums. */
  readonly sums: ReadonlyMap<string, ReadonlyMap<string, Buffer>>;
  /** Whose transfer files may differ. */
  readonly extensions: Iterable<ExtensionIndex>;
  /** What the index lists. */
  readonly listed: readonly Staged[];
  /** The signature of the index by its digest, where index and signature cannot be replaced in one step. */
  readonly signature: Staged | undefined;
  /** index.json and its signature; undefined when they stay. */
  readonly index: ReadonlyMap<string, Buffer> | undefined;
}

/** Replaces files of one folder where one of them differs from what is served. */
async function replaceChanged(destination: Destination, folder: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  const served = await Promise.all(
    [...files].map(async ([name, bytes]) => (await destination.read(`${folder}/${name}`))?.equals(bytes) === true),
  );
  if (!served.every(Boolean)) await destination.replace(folder, files);
}

/** Puts the signature of an index under the index's digest. One that is there is as good: of the same index, by another publisher. */
export async function putSignature(destination: Destination, signature: Staged): Promise<void> {
  if ((await destination.read(signature.path)) !== undefined) return;
  await destination.put(signature.path, signature.from, signature).catch((error: unknown) => {
    if (!(error instanceof TakenError)) throw error;
  });
}

/** Makes it all appear: first what nothing points to yet, then what points to it, the index last. */
export async function promote(destination: Destination, all: Promotion): Promise<void> {
  await mapParallel(
    all.images,
    async ({ image, sidecars }) => {
      // Neither the index nor sums list any of them: sums were compared when they were signed.
      for (const file of [...sidecars, image]) await destination.putOver(file.path, file.from, file);
    },
    4,
  );
  // In one order for all publishers: where two wait for names that the other has taken, neither would get further.
  for (const file of all.official.toSorted((a, b) => (a.path < b.path ? -1 : 1))) await destination.putOver(file.path, file.from, file);
  await destination.flush();
  await replaceChanged(destination, 'keys', all.keys.files);
  await destination.remove(all.keys.dropped);
  for (const [folder, files] of all.sums) await destination.replace(folder, files);
  for (const extension of all.extensions) {
    for (const [folder, files] of transferFolders(extension, all.baseUrl)) await replaceChanged(destination, folder, files);
  }
  for (const file of all.listed) await destination.put(file.path, file.from, file);
  if (all.signature !== undefined) await putSignature(destination, all.signature);
  if (all.index !== undefined) await destination.replace('', all.index);
}
