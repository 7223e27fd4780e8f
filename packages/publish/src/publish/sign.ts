import { basename, dirname } from 'node:path';
import { formatSums, mapParallel, parseSums, UserError } from '@flatcar/core/engine';
import { ConflictError, TakenError, type Destination } from '../destinations/destination.ts';
import type { PublishKeys } from '../keys/keys.ts';
import { SIGNATURE, SUMS } from '../tree/layout.ts';
import { foldersOf } from '../tree/folders.ts';
import { goodSignatures, signDetached } from '../keys/openpgp.ts';
import type { ExtensionIndex, UpdatePackage } from '../tree/schema.ts';

/** A text with its signature, to be replaced together. */
async function signed(name: string, text: string, keys: PublishKeys): Promise<Map<string, Buffer>> {
  const bytes = Buffer.from(text);
  const signature = await signDetached(bytes, keys.sums);
  const publics = keys.sums.map((key) => key.toPublic());
  const good = await goodSignatures(bytes, signature, publics);
  if (good.size !== keys.sums.length) throw new UserError('a new signature does not verify; nothing was published', { where: name });
  return new Map([
    [name, bytes],
    [`${name}${SIGNATURE}`, signature],
  ]);
}

/** True if exactly the current keys have signed a published file. */
async function isSignedByCurrentKeys(destination: Destination, path: string, keys: PublishKeys): Promise<boolean> {
  const [bytes, signature] = [await destination.read(path), await destination.read(`${path}${SIGNATURE}`)];
  if (bytes === undefined || signature === undefined) return false;
  const good = await goodSignatures(bytes, signature, keys.trusted);
  return good.size === keys.sums.length && keys.sums.every((key) => good.has(key.getFingerprint()));
}

/**
 * An entry of sums that systemd-sysupdate 260 and newer reads as a date (sysupdate-resource.c): from that day on, in UTC, it refuses the sums.
 * Older versions see a file that no pattern matches. There is no such file; the digest is that of an empty one.
 */
export const bestBefore = (day: string): string => `BEST-BEFORE-${day}`;
const isBestBefore = (name: string): boolean => name.startsWith(bestBefore(''));
const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** A file that sums list. */
interface ListedFile {
  readonly path: string;
  readonly sha256: string;
}

/** What the sums of one folder must list. */
interface FolderSums {
  readonly listed: readonly ListedFile[];
  /** Names that the sums must no longer list. */
  readonly removedNames: Set<string>;
  /** A listed name never changes its bytes. In the official layout only the index decides that. */
  readonly immutable: boolean;
}

/** What sums must list. */
export interface SumsUpdate {
  readonly extensions: readonly ExtensionIndex[];
  /** Packages of the official layout, and those of its folders whose sums are checked. */
  readonly packages: readonly UpdatePackage[];
  readonly folders: Iterable<string>;
  /** Paths that sums must no longer list; the sums of their folders are checked, too. */
  readonly removed: readonly string[];
  /** The day (`YYYY-MM-DD`) from which systemd-sysupdate refuses the sums of extensions. */
  readonly until: string;
  /** True: sums with a signature that does not match belong to a publisher at work, and are a ConflictError. */
  readonly patient?: boolean;
}

/** The folders whose sums are checked, with what they must list. */
function foldersToCheck({ extensions, packages, folders: official, removed }: SumsUpdate): Map<string, FolderSums> {
  const folders = new Map<string, FolderSums>();
  for (const index of extensions) {
    const withdrawn = index.versions.flatMap((version) => (version.withdrawn === undefined ? [] : version.images));
    const removedNames = new Set(withdrawn.map(({ path }) => basename(path)));
    for (const [folder, listed] of foldersOf(index)) folders.set(folder, { listed, removedNames, immutable: true });
  }
  const officialSums = (folder: string): FolderSums => ({
    listed: packages.flatMap((one) => (dirname(one.path) === folder ? [one.image, one] : [])),
    removedNames: new Set(),
    immutable: false,
  });
  for (const folder of official) folders.set(folder, officialSums(folder));
  for (const path of removed) {
    const folder = folders.get(dirname(path)) ?? officialSums(dirname(path));
    folder.removedNames.add(basename(path));
    folders.set(dirname(path), folder);
  }
  return folders;
}

/** The sums of a folder as they are published, if a known key has signed them. */
async function publishedSums(destination: Destination, folder: string, keys: PublishKeys, patient: boolean): Promise<Map<string, string>> {
  const path = `${folder}/${SUMS}`;
  const [bytes, signature] = [await destination.read(path), await destination.read(`${path}${SIGNATURE}`)];
  if (bytes === undefined) return new Map();
  const isSigned = signature !== undefined && (await goodSignatures(bytes, signature, keys.trusted)).size > 0;
  // Another publisher may have replaced one of the two.
  if (!isSigned && patient) throw new ConflictError(`${destination.where}/${path}`);
  return isSigned ? parseSums(bytes.toString(), path) : new Map();
}

/** The new sums of a folder: its listed files, and files that a killed publish entered before it reached the index. */
async function nextSums(
  destination: Destination,
  folder: string,
  { listed, removedNames, immutable }: FolderSums,
  keys: PublishKeys,
  { until, patient = false }: SumsUpdate,
): Promise<string> {
  const sums = await publishedSums(destination, folder, keys, patient);
  for (const { path, sha256 } of listed) {
    const name = basename(path);
    const before = sums.get(name);
    if (immutable && before !== undefined && before !== sha256) throw new TakenError(`${destination.where}/${folder}/${SUMS}`, path);
    sums.set(name, sha256);
  }
  for (const name of sums.keys()) if (removedNames.has(name) || isBestBefore(name)) sums.delete(name);
  // update-engine, which reads the official layout, knows no such entry.
  if (immutable && sums.size > 0) sums.set(bestBefore(until), EMPTY_SHA256);
  return formatSums(sums);
}

/**
 * Sums of the extensions' folders and of the official layout, with their signatures, by folder. Leaves out sums that are published with the
 * same text and signed by exactly the current keys.
 */
export async function signSums(destination: Destination, keys: PublishKeys, update: SumsUpdate): Promise<Map<string, Map<string, Buffer>>> {
  const result = new Map<string, Map<string, Buffer>>();
  await mapParallel(
    [...foldersToCheck(update)],
    async ([folder, sums]) => {
      const path = `${folder}/${SUMS}`;
      const text = await nextSums(destination, folder, sums, keys, update);
      const isSame = (await destination.read(path))?.toString() === text;
      if (isSame && (await isSignedByCurrentKeys(destination, path, keys))) return;
      result.set(folder, await signed(SUMS, text, keys));
    },
    8,
  );
  return result;
}
