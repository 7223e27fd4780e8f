import { basename } from 'node:path';
import { sidecarPaths } from '@flatcar/core/engine';
import { deltaPaths } from '../deltas/listed.ts';
import type { TreeMetadata } from '../metadata/metadata.ts';
import { latestChanges } from '../tree/changes.ts';
import { entryOf } from '../tree/entry.ts';
import { extensionIndexPath, metadataPath, officialBase, packagesPath, targetPath } from '../tree/layout.ts';
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
import { stageText, type Staged } from './stage.ts';
import { sha256Of } from '../tree/digest.ts';

/** What the next index lists. */
export interface Listing {
  readonly baseUrl: string;
  readonly origins: Index['origins'];
  /** Changed extensions; the entries of all others stay. */
  readonly extensions: ReadonlyMap<string, ExtensionIndex>;
  readonly packages: readonly UpdatePackage[];
  readonly keys: readonly ListedKey[];
  /** Fingerprints of the OpenPGP keys that sign sums. */
  readonly sumsKeys: readonly string[];
  /** The day from which systemd-sysupdate refuses the sums. */
  readonly sumsUntil: string;
  /** The metadata that vouches for the former index. */
  readonly metadata: TreeMetadata | undefined;
  /** Makes a new index even if nothing differs, because its metadata must be signed again. */
  readonly renew: boolean;
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
export const withSidecars = (path: string): string[] =>
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
    entries.set(name, entryOf(index, fileOf(file)));
  }
  return { files, entries: [...entries.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1)) };
}

/** Paths of an index's own files. */
const indexFiles = ({ extensions, packages }: Pick<Index, 'extensions' | 'packages'>): string[] => [
  ...extensions.map(({ path }) => path),
  packages.path,
];

/** Paths of the files of one state of the metadata: the index, targets and snapshot. */
export function metadataFiles({ targets, snapshot }: TreeMetadata): string[] {
  const indexes = Object.values(targets.signed.targets).map(({ hashes }) => targetPath(hashes['sha256'] ?? ''));
  return [...indexes, metadataPath('targets', targets.signed.version), metadataPath('snapshot', snapshot.signed.version)];
}

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
  const { baseUrl, origins, keys, sumsKeys, sumsUntil, metadata, renew } = listing;
  const { files, entries: extensions } = await stageExtensions(staging, before, listing.extensions);
  const text = packagesText(listing.packages);
  const packages = await stageText(staging, packagesPath(sha256Of(Buffer.from(text))), text);
  const changes = latestChanges(before?.changes ?? [], listing.extensions.values());
  const next = (serial: number, superseded: string[]): Index => ({
    schema: SCHEMA,
    serial,
    baseUrl,
    origins,
    extensions,
    packages: fileOf(packages),
    keys: [...keys],
    sumsKeys: [...sumsKeys],
    sumsUntil,
    changes,
    superseded,
  });
  const staged = [...files, packages];
  if (!renew && before !== undefined && indexText(next(before.serial, before.superseded)) === indexText(before))
    return { index: before, isSame: true, files: staged, dropped: [] };
  const former = before === undefined ? [] : indexFiles(before);
  if (metadata !== undefined) former.push(...metadataFiles(metadata));
  const listed = new Set([...indexFiles({ extensions, packages }), ...listedImages(listing)]);
  const superseded = [...former, ...listing.removed.flatMap(withSidecars)].filter((path) => !listed.has(path));
  return {
    index: next((before?.serial ?? 0) + 1, superseded),
    isSame: false,
    files: staged,
    dropped: (before?.superseded ?? []).filter((path) => !listed.has(path) && !superseded.includes(path)),
  };
}
