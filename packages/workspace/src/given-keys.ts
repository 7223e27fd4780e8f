import { envOf, UsageError, UserError, type SignKeys } from '@flatcar/core/engine';
import type { PublishKeys } from '@flatcar/publish';

/** Where a command gets keys from; an empty word counts as absent. */
export interface KeyPlaces {
  /** Folder of keys. */
  readonly keys?: string;
  /** OpenPGP public keys of the publisher. */
  readonly keyring?: string;
}

/** Key and certificate files for the roothash of disk images, or the folder of keys. */
export interface RoothashPlaces {
  readonly key?: string;
  readonly certificate?: string;
  readonly keys?: string;
}

/** The keys that sign a tree: those of the folder and of the environment, with the keyring of those that are trusted besides. */
export async function publishKeys({ keys, keyring }: KeyPlaces): Promise<PublishKeys> {
  const { loadKeys } = await import('@flatcar/publish');
  return loadKeys(keys || undefined, process.env, keyring || undefined);
}

/** The public keys that a tree is verified with: the keyring, else those of the folder and of the environment. Throws a UserError for none. */
export async function trustedKeys({ keys, keyring }: KeyPlaces): Promise<PublishKeys['trusted']> {
  const { loadKeys, readKeyringFile } = await import('@flatcar/publish');
  if (keyring) return readKeyringFile(keyring);
  if (!keys && envOf('FLATCAR_EXT_SUMS_KEY') === undefined)
    throw new UserError('cannot verify this tree: no public key given', {
      next: "pass the publisher's keyring: --keyring FILE (its own copy under the tree proves nothing unless you have checked it)",
    });
  return (await loadKeys(keys || undefined)).trusted;
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
