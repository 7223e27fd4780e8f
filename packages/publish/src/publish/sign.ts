import { basename, dirname } from 'node:path';
import { formatSums, mapParallel, parseSums, UserError } from '@flatcar/core/engine';
import { ConflictError, TakenError, type Destination } from '../destinations/destination.ts';
import type { PublishKeys } from '../keys/keys.ts';
import { SIGNATURE, SUMS } from '../tree/layout.ts';
import { foldersOf } from '../tree/folders.ts';
import { goodSignatures, signDetached } from '../keys/openpgp.ts';
import type { ExtensionIndex, UpdatePackage } from '../tree/schema.ts';

/** A text with its signature, ready to be switched together. */
export async function signed(name: string, text: string, keys: PublishKeys): Promise<Map<string, Buffer>> {
  const bytes = Buffer.from(text);
  const signature = await signDetached(bytes, keys.sums);
  const good = await goodSignatures(bytes, signature, keys.sums.map((key) => key.toPublic())); // prettier-ignore
  if (good.size !== keys.sums.length) throw new UserError('a signature made just now is not good; nothing was published', { where: name });
  return new Map([
    [name, bytes],
    [`${name}${SIGNATURE}`, signature],
  ]);
}

/** True when exactly the keys that sign now have signed a file as it is served. */
export async function signedByUs(destination: Destination, path: string, keys: PublishKeys): Promise<boolean> {
  const [bytes, signature] = [await destination.read(path), await destination.read(`${path}${SIGNATURE}`)];
  if (bytes === undefined || signature === undefined) return false;
  const good = await goodSignatures(bytes, signature, keys.trusted);
  return good.size === keys.sums.length && keys.sums.every((key) => good.has(key.getFingerprint()));
}

/**
 * The sums of a folder: what the index lists, and what a publish that has not got as far as the index entered there before.
 * `gone` names what must not be listed any more. `isFixed`: a name that is listed has its bytes for good; in the official layout only the
 * index decides that.
 */
async function sumsOf(
  destination: Destination,
  folder: string,
  listed: readonly { path: string; sha256: string }[],
  gone: ReadonlySet<string>,
  keys: PublishKeys,
  { isFixed, patient }: { isFixed: boolean; patient: boolean },
): Promise<string> {
  const path = `${folder}/${SUMS}`;
  const [bytes, signature] = [await destination.read(path), await destination.read(`${path}${SIGNATURE}`)];
  const isOurs = bytes !== undefined && signature !== undefined && (await goodSignatures(bytes, signature, keys.trusted)).size > 0;
  // Sums and signature of another publisher, who has replaced one of the two by now.
  if (patient && bytes !== undefined && !isOurs) throw new ConflictError(`${destination.where}/${path}`);
  const sums = isOurs ? parseSums(bytes.toString(), path) : new Map<string, string>();
  for (const { path: file, sha256 } of listed) {
    const name = basename(file);
    const before = sums.get(name);
    if (isFixed && before !== undefined && before !== sha256) throw new TakenError(`${destination.where}/${path}`, file);
    sums.set(name, sha256);
  }
  for (const name of gone) sums.delete(name);
  return formatSums(sums);
}

/** What sums are to say. */
export interface SumsUpdate {
  readonly extensions: readonly ExtensionIndex[];
  /** Of the official layout, and those of its folders whose sums are looked at. */
  readonly packages: readonly UpdatePackage[];
  readonly folders: Iterable<string>;
  /** Paths that no sums may list any more; their folders' sums are looked at, too. */
  readonly gone: readonly string[];
  /** True while sums whose signature does not fit are taken for those of another publisher at work: then a ConflictError. */
  readonly patient?: boolean;
}

/** A file that sums list. */
interface Listed {
  readonly path: string;
  readonly sha256: string;
}

/**
 * Sums of the extensions' folders and of the official ones, with their signatures. What stands as it should and is signed by exactly our keys
 * is left out.
 */
export async function signSums(
  destination: Destination,
  keys: PublishKeys,
  { extensions, packages, folders: official, gone: retired, patient = false }: SumsUpdate,
): Promise<Map<string, Map<string, Buffer>>> {
  const folders = new Map<string, { listed: Listed[]; gone: Set<string>; isFixed: boolean }>();
  for (const index of extensions) {
    const gone = new Set(
      index.versions.filter(({ withdrawn }) => withdrawn !== undefined).flatMap(({ images }) => images.map(({ path }) => basename(path))),
    );
    for (const [folder, listed] of foldersOf(index)) folders.set(folder, { listed, gone, isFixed: true });
  }
  const listedIn = (folder: string): Listed[] => packages.flatMap((one) => (dirname(one.path) === folder ? [one.image, one] : []));
  for (const folder of official) folders.set(folder, { listed: listedIn(folder), gone: new Set(), isFixed: false });
  for (const path of retired) {
    const folder = dirname(path);
    const there = folders.get(folder) ?? { listed: listedIn(folder), gone: new Set(), isFixed: false };
    there.gone.add(basename(path));
    folders.set(folder, there);
  }
  const result = new Map<string, Map<string, Buffer>>();
  await mapParallel(
    [...folders],
    async ([folder, { listed, gone, isFixed }]) => {
      const text = await sumsOf(destination, folder, listed, gone, keys, { isFixed, patient });
      const same = (await destination.read(`${folder}/${SUMS}`))?.toString() === text;
      if (same && (await signedByUs(destination, `${folder}/${SUMS}`, keys))) return;
      result.set(folder, await signed(SUMS, text, keys));
    },
    8,
  );
  return result;
}
