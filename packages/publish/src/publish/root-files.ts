import type { Destination } from '../destinations/destination.ts';
import { INDEX, PAGE } from '../tree/layout.ts';

/**
 * The files at the root of a tree, which are replaced together: the index for people, and the catalogue page (undefined to keep the one that is
 * there).
 */
export async function rootFiles(destination: Destination, index: Buffer, page: Buffer | undefined): Promise<ReadonlyMap<string, Buffer>> {
  const next = page ?? (await destination.read(PAGE));
  return new Map([...(next === undefined ? [] : [[PAGE, next] as const]), [INDEX, index]]);
}
