import type { Destination } from '../destinations/destination.ts';
import { INDEX, PAGE } from '../tree/layout.ts';
import { readerFiles } from '../tree/reader-files.ts';
import { indexText, type Index } from '../tree/schema.ts';

/**
 * The files at the root of a tree, which are replaced together: the index for people, what follows from it, and the catalogue page (undefined to
 * keep the one that is there).
 */
export async function rootFiles(destination: Destination, index: Index, page: Buffer | undefined): Promise<ReadonlyMap<string, Buffer>> {
  const next = page ?? (await destination.read(PAGE));
  return new Map([...(next === undefined ? [] : [[PAGE, next] as const]), ...readerFiles(index), [INDEX, Buffer.from(indexText(index))]]);
}
