import { basename } from 'node:path';
import { mapParallel } from '@flatcar/core';
import type { Destination } from './destination.ts';
import { publicPem, type PublishKeys } from './keys.ts';
import { KEYS } from './layout.ts';
import { putOfficial } from './official.ts';
import { keyringOf } from './pgp.ts';
import type { ExtensionIndex } from './schema.ts';
import type { Staged, StagedImage } from './stage.ts';
import { transferFiles } from './transfer.ts';

/** Everything that is to appear, staged, checked and signed. */
export interface Promotion {
  readonly images: readonly StagedImage[];
  /** Of the official layout. */
  readonly official: readonly Staged[];
  readonly keys: PublishKeys;
  readonly baseUrl: string;
  /** Files of each folder's sums. */
  readonly sums: ReadonlyMap<string, ReadonlyMap<string, Buffer>>;
  /** Whose transfer files may differ. */
  readonly extensions: Iterable<ExtensionIndex>;
  /** What the index lists. */
  readonly listed: readonly Staged[];
  /** index.json and its signature; undefined when they stay. */
  readonly index: ReadonlyMap<string, Buffer> | undefined;
}

/** Public keys, as nodes take them. */
function publicKeyFiles({ trusted, update, certificate }: PublishKeys): Map<string, Buffer> {
  return new Map([
    [basename(KEYS.keyring), keyringOf(trusted)],
    ...(update.length === 0 ? [] : [[basename(KEYS.update), Buffer.from(update.map(publicPem).join(''))] as const]),
    ...(certificate === undefined ? [] : [[basename(KEYS.certificate), Buffer.from(certificate)] as const]),
  ]);
}

/** Replaces files of one folder where one of them differs from what is served. */
async function replaceChanged(destination: Destination, folder: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  const served = await Promise.all(
    [...files].map(async ([name, bytes]) => (await destination.read(`${folder}/${name}`))?.equals(bytes) === true),
  );
  if (!served.every(Boolean)) await destination.replace(folder, files);
}

/** Makes it all appear: first what nothing points to yet, then what points to it, the index last. */
export async function promote(destination: Destination, all: Promotion): Promise<void> {
  await mapParallel(
    all.images,
    async ({ image, sidecars }) => {
      for (const file of sidecars) await destination.putOver(file.path, file.from, file);
      await destination.put(image.path, image.from, image);
    },
    4,
  );
  for (const file of all.official) await putOfficial(destination, file);
  await destination.settle?.();
  await replaceChanged(destination, 'keys', publicKeyFiles(all.keys));
  for (const [folder, files] of all.sums) await destination.replace(folder, files);
  for (const extension of all.extensions) {
    const folders = Map.groupBy(transferFiles(extension, all.baseUrl), ([path]) => path.replace(/\/[^/]+$/, ''));
    for (const [folder, files] of folders)
      await replaceChanged(destination, folder, new Map(files.map(([path, bytes]) => [basename(path), bytes])));
  }
  for (const file of all.listed) await destination.put(file.path, file.from, file);
  if (all.index !== undefined) await destination.replace('', all.index);
}
