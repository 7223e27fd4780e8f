import { basename } from 'node:path';
import { sidecarPaths } from '@flatcar/core/engine';
import { extensionIndexPath, INDEX, indexSignaturePath, officialBase, packagesPath, SIGNATURE } from '../tree/layout.ts';
import {
  extensionIndexText, indexText, packagesText, SCHEMA, type ExtensionIndex, type Index, type ListedKey, type PublishedFile, type UpdatePackage,
} from '../tree/schema.ts'; // prettier-ignore
import { stageBytes, stageText, type Staged } from './stage.ts';
import { sha256Of } from '../tree/digest.ts';

/** What is to be listed. */
export interface Listing {
  readonly baseUrl: string;
  readonly origins: Index['origins'];
  /** Those that change; the others stay as they are listed. */
  readonly extensions: ReadonlyMap<string, ExtensionIndex>;
  readonly packages: readonly UpdatePackage[];
  readonly keys: readonly ListedKey[];
  /** Whether the tree has the signature of each index by its digest: that of the one before goes as other files do. */
  readonly signatures: boolean;
  /** Paths of what is listed no more. */
  readonly gone: readonly string[];
}

/** The index that follows another one, with the files that it lists, staged. */
export interface NextIndex {
  readonly index: Index;
  /** Nothing differs: `index` is the one that is served. */
  readonly isSame: boolean;
  readonly files: readonly Staged[];
  /** What nobody reads any more once this index is served. */
  readonly dropped: readonly string[];
}

const fileOf = ({ path, size, sha256 }: Staged): PublishedFile => ({ path, size, sha256 });

/** An image of an extension's folder has sidecars; what the official layout has stands alone. */
const withSidecars = (path: string): string[] =>
  path.endsWith('.raw') && !basename(path).startsWith(officialBase('')) ? [path, ...Object.values(sidecarPaths(path))] : [path];

/** Composes the index that comes after `before`. Files that `before` lists and this one does not are named in it, and gone with the next one. */
export async function nextIndex(staging: string, before: Index | undefined, listing: Listing): Promise<NextIndex> {
  const { baseUrl, origins } = listing;
  const files: Staged[] = [];
  const entries = new Map((before?.extensions ?? []).map((one) => [one.name, one]));
  for (const [name, index] of listing.extensions) {
    const text = extensionIndexText(index);
    const file = await stageText(staging, extensionIndexPath(name, sha256Of(Buffer.from(text))), text);
    files.push(file);
    const newest = index.versions.find(({ withdrawn, images }) => withdrawn === undefined && images.length > 0)?.version ?? '';
    entries.set(name, { name, summary: index.summary, newest, ...fileOf(file) });
  }
  const text = packagesText(listing.packages);
  const packages = await stageText(staging, packagesPath(sha256Of(Buffer.from(text))), text);
  files.push(packages);
  const extensions = [...entries.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const listed = new Set([...extensions.map(({ path }) => path), packages.path]);
  const was =
    before === undefined
      ? []
      : [
          ...before.extensions.map(({ path }) => path),
          before.packages.path,
          ...(listing.signatures ? [indexSignaturePath(sha256Of(Buffer.from(indexText(before))))] : []),
        ];
  const next = (serial: number, superseded: string[]): Index => ({
    schema: SCHEMA,
    serial,
    baseUrl,
    origins,
    extensions,
    packages: fileOf(packages),
    keys: [...listing.keys],
    superseded,
  });
  if (before !== undefined && indexText(next(before.serial, before.superseded)) === indexText(before))
    return { index: before, isSame: true, files, dropped: [] };
  for (const { versions } of listing.extensions.values())
    for (const { images } of versions) for (const { path } of images) for (const one of withSidecars(path)) listed.add(one);
  for (const { path, image } of listing.packages) listed.add(path).add(image.path);
  const superseded = [...was, ...listing.gone.flatMap(withSidecars)].filter((path) => !listed.has(path));
  return {
    index: next((before?.serial ?? 0) + 1, superseded),
    isSame: false,
    files,
    dropped: (before?.superseded ?? []).filter((path) => !listed.has(path) && !superseded.includes(path)),
  };
}

/** The signature of a signed index, under the digest of what it signs. */
export async function stageSignature(staging: string, set: ReadonlyMap<string, Buffer>): Promise<Staged> {
  const [index = Buffer.alloc(0), signature = Buffer.alloc(0)] = [set.get(INDEX), set.get(`${INDEX}${SIGNATURE}`)];
  return stageBytes(staging, indexSignaturePath(sha256Of(index)), signature);
}
