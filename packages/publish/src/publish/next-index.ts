import { basename } from 'node:path';
import { sidecarPaths } from '@flatcar/core/engine';
import { deltaPaths } from '../deltas/listed.ts';
import { extensionIndexPath, INDEX, indexSignaturePath, officialBase, packagesPath, SIGNATURE } from '../tree/layout.ts';
import {
  extensionIndexText,
  indexText,
  packagesText,
  SCHEMA,
  type ExtensionIndex,
  type Index,
  type ListedKey,
  type PublishedFile,
  type UpdatePackage,
} from '../tree/schema.ts';
import { stageBytes, stageText, type Staged } from './stage.ts';
import { sha256Of } from '../tree/digest.ts';

/** What the next index lists. */
export interface Listing {
  readonly baseUrl: string;
  readonly origins: Index['origins'];
  /** Changed extensions; the entries of all others stay. */
  readonly extensions: ReadonlyMap<string, ExtensionIndex>;
  readonly packages: readonly UpdatePackage[];
  readonly keys: readonly ListedKey[];
  /** True if the tree has each index's signature under the index's digest; a former index's signature is dropped like its files. */
  readonly signatures: boolean;
  /** Paths that are no longer listed. */
  readonly removed: readonly string[];
}

/** The index that follows another one, with the files that it lists, staged. */
export interface NextIndex {
  readonly index: Index;
  /** Nothing differs: `index` is the published one. */
  readonly isSame: boolean;
  readonly files: readonly Staged[];
  /** Files that no reader needs once this index is published. */
  readonly dropped: readonly string[];
}

const fileOf = ({ path, size, sha256 }: Staged): PublishedFile => ({ path, size, sha256 });

/** A path with those of its sidecars: images have sidecars, except in the official layout. */
const withSidecars = (path: string): string[] =>
  path.endsWith('.raw') && !basename(path).startsWith(officialBase('')) ? [path, ...Object.values(sidecarPaths(path))] : [path];

/** Stages the changed indexes of extensions, and gives the entries of all extensions, by name. */
async function stageExtensions(
  staging: string,
  before: Index | undefined,
  extensions: Listing['extensions'],
): Promise<{ files: Staged[]; entries: Index['extensions'] }> {
  const files: Staged[] = [];
  const entries = new Map((before?.extensions ?? []).map((one) => [one.name, one]));
  for (const [name, index] of extensions) {
    const text = extensionIndexText(index);
    const file = await stageText(staging, extensionIndexPath(name, sha256Of(Buffer.from(text))), text);
    files.push(file);
    const newest = index.versions.find(({ withdrawn, images }) => withdrawn === undefined && images.length > 0)?.version ?? '';
    entries.set(name, { name, summary: index.summary, newest, ...fileOf(file) });
  }
  return { files, entries: [...entries.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1)) };
}

/** Paths of an index's own files. */
const indexFiles = ({ extensions, packages }: Pick<Index, 'extensions' | 'packages'>): string[] => [
  ...extensions.map(({ path }) => path),
  packages.path,
];

/** Paths of images with their sidecars, deltas and packages that are listed. */
function listedImages({ extensions, packages }: Listing): string[] {
  const indexes = [...extensions.values()];
  const images = indexes.flatMap(({ versions }) => versions.flatMap((version) => version.images));
  const deltas = indexes.flatMap((index) => [...deltaPaths(index)]);
  return [...images.flatMap(({ path }) => withSidecars(path)), ...deltas, ...packages.flatMap(({ path, image }) => [path, image.path])];
}

/**
 * Composes the index that follows `before`. The new index names the files that `before` lists and the new one does not; the index after it
 * drops them.
 */
export async function nextIndex(staging: string, before: Index | undefined, listing: Listing): Promise<NextIndex> {
  const { baseUrl, origins, keys } = listing;
  const { files, entries: extensions } = await stageExtensions(staging, before, listing.extensions);
  const text = packagesText(listing.packages);
  const packages = await stageText(staging, packagesPath(sha256Of(Buffer.from(text))), text);
  const next = (serial: number, superseded: string[]): Index => ({
    schema: SCHEMA,
    serial,
    baseUrl,
    origins,
    extensions,
    packages: fileOf(packages),
    keys: [...keys],
    superseded,
  });
  const staged = [...files, packages];
  if (before !== undefined && indexText(next(before.serial, before.superseded)) === indexText(before))
    return { index: before, isSame: true, files: staged, dropped: [] };
  const former = before === undefined ? [] : indexFiles(before);
  if (before !== undefined && listing.signatures) former.push(indexSignaturePath(sha256Of(Buffer.from(indexText(before)))));
  const listed = new Set([...indexFiles({ extensions, packages }), ...listedImages(listing)]);
  const superseded = [...former, ...listing.removed.flatMap(withSidecars)].filter((path) => !listed.has(path));
  return {
    index: next((before?.serial ?? 0) + 1, superseded),
    isSame: false,
    files: staged,
    dropped: (before?.superseded ?? []).filter((path) => !listed.has(path) && !superseded.includes(path)),
  };
}

/** The signature of a signed index, under the digest of what it signs. */
export async function stageSignature(staging: string, set: ReadonlyMap<string, Buffer>): Promise<Staged> {
  const [index = Buffer.alloc(0), signature = Buffer.alloc(0)] = [set.get(INDEX), set.get(`${INDEX}${SIGNATURE}`)];
  return stageBytes(staging, indexSignaturePath(sha256Of(index)), signature);
}
