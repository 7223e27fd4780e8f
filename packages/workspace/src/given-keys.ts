import { UsageError, type SignKeys } from '@flatcar/core/engine';
import type { PublishKeys, Trust } from '@flatcar/publish';

/** Where a command gets keys from; an empty word counts as absent. */
export interface KeyPlaces {
  /** Folder of keys. */
  readonly keys?: string;
  /** More OpenPGP public keys that nodes trust. */
  readonly keyring?: string;
  /** The root of trust: a root.json, or a folder of roots. */
  readonly root?: string;
}

/** Key and certificate files for the roothash of disk images, or the folder of keys. */
export interface RoothashPlaces {
  readonly key?: string;
  readonly certificate?: string;
  readonly keys?: string;
}

/** The keys that sign a tree: those of the folder and of the environment, with the keyring of those that are trusted besides. */
export async function publishKeys({ keys, keyring, root }: KeyPlaces): Promise<PublishKeys> {
  const { loadKeys } = await import('@flatcar/publish');
  return loadKeys(keys || undefined, process.env, { keyring: keyring || undefined, root: root || undefined });
}

/**
 * What a tree is verified with: the given root, else that of the folder of keys, else the root that was accepted before; with
 * `trustFirstUse`, the first root of a tree that was not read before.
 */
export async function treeTrust({
  keys,
  root,
  trustFirstUse,
}: Pick<KeyPlaces, 'keys' | 'root'> & { readonly trustFirstUse?: boolean }): Promise<Trust> {
  const { rootsOf } = await import('@flatcar/publish');
  const roots = await rootsOf(keys || undefined, root || undefined);
  return { root: roots?.at(-1), firstUse: trustFirstUse === true };
}

/** The key that signs the roothash of disk images: the named files, else those of the folder, if it has any. */
export async function signKeys({ key, certificate, keys }: RoothashPlaces): Promise<SignKeys | undefined> {
  if ((key === undefined) !== (certificate === undefined))
    throw new UsageError('--key and --certificate go together', { next: 'specify both, or --keys' });
  if (key !== undefined && certificate !== undefined) return { key, certificate };
  return keys ? (await import('@flatcar/publish')).roothashKeys(keys) : undefined;
}

/**
 * Calls `use` with the key that signs the roothash of disk images: signKeys, else FLATCAR_EXT_ROOTHASH_KEY and
 * FLATCAR_EXT_ROOTHASH_CERTIFICATE (PEM), in files that are removed afterwards.
 */
export async function withSignKeys<T>(places: RoothashPlaces, use: (sign: SignKeys | undefined) => Promise<T>): Promise<T> {
  const sign = await signKeys(places);
  if (sign !== undefined) return use(sign);
  return (await import('@flatcar/publish')).withRoothashKeys(undefined, process.env, use);
}
