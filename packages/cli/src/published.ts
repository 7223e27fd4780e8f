import { readFile } from 'node:fs/promises';
import { findExtensions, loadExtension, UserError, type SignKeys } from '@flatcar/core';
import type { Destination, PlannedExtension, PublishKeys } from '@flatcar/publish';
import { Option } from 'commander';
import { REPOSITORY } from './options.ts';

export const keysOption = (): Option => new Option('--keys <dir>', 'folder of keys that keys init made').env('FLATCAR_EXT_KEYS');
export const keyringOption = (): Option =>
  new Option('--keyring <file>', 'OpenPGP public keys of the publisher (its keys/import-pubring.gpg, or armored); instead of --keys').env(
    'FLATCAR_EXT_KEYRING',
  );
export const baseUrlOption = (): Option =>
  new Option('--base-url <url>', 'URL under which the tree is served, for transfer files; that of the tree unless said').env(
    'FLATCAR_EXT_BASE_URL',
  );

/** The place that `--to` names; with `--assets`, images go into releases of a GitHub repository. */
export async function openDestination(where: string, assets?: string): Promise<Destination> {
  const { githubDestination, localDestination, s3Destination } = await import('@flatcar/publish');
  const place = where.startsWith('s3://') ? s3Destination(where) : localDestination(where);
  if (assets === undefined) return place;
  if (!assets.startsWith('github:'))
    throw new UserError(`'${assets}' is no place for assets`, { next: 'write it as github:owner/repository' });
  return githubDestination(place, assets.slice('github:'.length));
}

/** Whose signatures are taken: `--keyring`, else the set of `--keys`. */
export async function trustedKeys(flags: { keyring?: string; keys?: string }): Promise<PublishKeys['trusted']> {
  const { loadKeys, readKeyring, readPublicKeys } = await import('@flatcar/publish');
  if (flags.keyring !== undefined) {
    const bytes = await readFile(flags.keyring).catch((cause: unknown) => {
      throw new UserError('the keyring cannot be read', { where: flags.keyring ?? '', cause });
    });
    return bytes.includes('-----BEGIN PGP') ? readPublicKeys(bytes.toString(), flags.keyring) : readKeyring(bytes, flags.keyring);
  }
  if (flags.keys === undefined && process.env['FLATCAR_EXT_SUMS_KEY'] === undefined)
    throw new UserError('nobody vouches for this tree: no public key is known', {
      next: "give the publisher's keyring by --keyring FILE (its own copy under the tree proves nothing unless you have checked it)",
    });
  return (await loadKeys(flags.keys)).trusted;
}

/** What signs the roothash of disk images: `--key` and `--certificate`, else those of the set of `--keys`, if it has any. */
export async function signKeys(flags: { key?: string; certificate?: string; keys?: string }): Promise<SignKeys | undefined> {
  const { key, certificate, keys } = flags;
  if ((key === undefined) !== (certificate === undefined)) throw new UserError('--key and --certificate go together');
  if (key !== undefined && certificate !== undefined) return { key, certificate };
  return keys === undefined ? undefined : (await import('@flatcar/publish')).roothashKeys(keys);
}

/** Extensions of the repository with what is decided by: all, or those that are named. */
export async function planned(names: readonly string[]): Promise<PlannedExtension[]> {
  const dirs = await findExtensions(REPOSITORY);
  const nameOf = (dir: string): string => dir.split('/').at(-1) ?? '';
  const unknown = names.find((name) => !dirs.some((dir) => nameOf(dir) === name));
  if (unknown !== undefined)
    throw new UserError(`there is no extension '${unknown}'`, { where: REPOSITORY, next: `there are: ${dirs.map(nameOf).join(', ')}` });
  const chosen = dirs.filter((dir) => names.length === 0 || names.includes(nameOf(dir)));
  const loaded = await Promise.all(chosen.map((dir) => loadExtension(dir)));
  // An extension of date (`versions: date`) keeps its newest lock, as all do whose policy says so.
  return loaded.map(({ extension, pins }) => ({ name: extension.name, pins, keep: extension.versions.keep }));
}
