import {
  catalogue,
  envOf,
  findExtensions,
  loadExtension,
  type LoadedExtension,
  nearest,
  selectTargets,
  UserError,
  type SignKeys,
  type Target,
  UsageError,
} from '@flatcar/core/engine';
import type { PlannedExtension, PublishKeys } from '@flatcar/publish';
import { Option, type Command } from 'commander';
import { REPOSITORY, unknownExtension } from '@flatcar/workspace/select';

export const keysOption = (): Option => new Option('--keys <dir>', 'folder of keys that keys init made').env('FLATCAR_EXT_KEYS');
export const keyringOption = (): Option =>
  new Option('--keyring <file>', 'OpenPGP public keys of the publisher (its keys/import-pubring.gpg, or armored); instead of --keys').env(
    'FLATCAR_EXT_KEYRING',
  );
export const baseUrlOption = (): Option =>
  new Option('--base-url <url>', 'URL under which the tree is served, for transfer files; that of the tree by default').env(
    'FLATCAR_EXT_BASE_URL',
  );

/** Options of all commands that sign a tree. */
export interface SigningFlags {
  readonly keys?: string;
  readonly keyring?: string;
  readonly unsigned?: boolean;
}

/** Adds the options of commands that sign a tree. */
export function addSigningOptions(command: Command): Command {
  return command
    .addOption(keysOption())
    .addOption(
      new Option(
        '--keyring <file>',
        'OpenPGP public keys that nodes know or are to know: trusted and published besides those that sign',
      ).env('FLATCAR_EXT_KEYRING'),
    )
    .option(
      '--unsigned',
      'publish although a key is missing (refused by default): disk images whose roothash is not signed, no update payloads',
    );
}

/** The keys that sign a tree: the folder of `--keys` and the environment, with the keyring of what is trusted besides. */
export async function publishKeys({ keys, keyring }: SigningFlags): Promise<PublishKeys> {
  const { loadKeys } = await import('@flatcar/publish');
  return loadKeys(keys || undefined, process.env, keyring || undefined);
}

/** Whose signatures are taken: `--keyring`, else the set of `--keys` and of the environment. */
export async function trustedKeys({ keys, keyring }: { keyring?: string; keys?: string }): Promise<PublishKeys['trusted']> {
  const { loadKeys, readKeyringFile } = await import('@flatcar/publish');
  if (keyring) return readKeyringFile(keyring);
  if (!keys && envOf('FLATCAR_EXT_SUMS_KEY') === undefined)
    throw new UserError('cannot verify this tree: no public key given', {
      next: "pass the publisher's keyring: --keyring FILE (its own copy under the tree proves nothing unless you have checked it)",
    });
  return (await loadKeys(keys || undefined)).trusted;
}

/** What signs the roothash of disk images: `--key` and `--certificate`, else those of the set of `--keys`, if it has any. */
export async function signKeys(flags: { key?: string; certificate?: string; keys?: string }): Promise<SignKeys | undefined> {
  const { key, certificate, keys } = flags;
  if ((key === undefined) !== (certificate === undefined))
    throw new UsageError('--key and --certificate go together', { next: 'specify both, or --keys' });
  if (key !== undefined && certificate !== undefined) return { key, certificate };
  return keys ? (await import('@flatcar/publish')).roothashKeys(keys) : undefined;
}

/** The same, or what FLATCAR_EXT_ROOTHASH_KEY and FLATCAR_EXT_ROOTHASH_CERTIFICATE hold, in files that are gone afterwards. */
export async function withSignKeys<T>(
  flags: { key?: string; certificate?: string; keys?: string },
  use: (sign: SignKeys | undefined) => Promise<T>,
): Promise<T> {
  const sign = await signKeys(flags);
  if (sign !== undefined) return use(sign);
  return (await import('@flatcar/publish')).withRoothashKeys(undefined, process.env, use);
}

/** Loads extensions of the repository: all, or those that are named. */
export async function loadNamed(names: readonly string[]): Promise<LoadedExtension[]> {
  const dirs = await findExtensions(REPOSITORY);
  const nameOf = (dir: string): string => dir.split('/').at(-1) ?? '';
  const unknown = names.find((name) => !dirs.some((dir) => nameOf(dir) === name));
  if (unknown !== undefined) throw unknownExtension(unknown, dirs);
  const chosen = dirs.filter((dir) => names.length === 0 || names.includes(nameOf(dir)));
  return Promise.all(chosen.map((dir) => loadExtension(dir)));
}

/** What a plan needs of extensions. */
export function plannedExtensions(loaded: readonly LoadedExtension[]): PlannedExtension[] {
  // An extension of date (`versions: date`) keeps its newest lock, as all do whose policy says so.
  return loaded.map(({ extension: { name, versions, waive, requires, releaseBound }, pins }) => ({
    name,
    pins,
    keep: versions.keep,
    waive,
    requires,
    releaseBound,
  }));
}

/** Reads `--release` for a published tree, which may have images for releases that the catalogue of this checkout does not know (yet). */
export function targetsNamed(text: string): Target[] {
  const words = text.split(',').map((word) => word.trim());
  const known = catalogue();
  return words.flatMap((word): Target[] => {
    const like = /^\d+\.\d+\.\d+$/.test(word) && !known.some(({ number }) => number === word) ? nearest(word) : undefined;
    return like === undefined ? selectTargets(word) : [{ ...like, number: word }];
  });
}
