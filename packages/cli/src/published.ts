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

export const keysOption = (): Option =>
  new Option('--keys <dir>', 'folder of keys, as flatcar-ext keys init makes it').env('FLATCAR_EXT_KEYS');
export const keyringOption = (): Option =>
  new Option('--keyring <file>', 'OpenPGP public keys of the publisher that verify the tree, instead of --keys').env('FLATCAR_EXT_KEYRING');
export const baseUrlOption = (): Option =>
  new Option('--base-url <url>', 'URL under which the tree is served, for transfer files')
    .default(undefined, 'that of the tree')
    .env('FLATCAR_EXT_BASE_URL');
/** Of commands that write a published tree. */
export const treeOption = (): Option =>
  new Option('--tree <where>', 'the published tree: a folder, or s3://bucket/prefix').makeOptionMandatory();
export const assetsOption = (): Option =>
  new Option('--assets <where>', 'store images in releases of a repository, github:owner/name, with redirects to them in the tree');

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
      new Option('--keyring <file>', 'more OpenPGP public keys that nodes trust: they are published with the keys that sign').env(
        'FLATCAR_EXT_KEYRING',
      ),
    )
    .option('--unsigned', 'publish without a key that is missing: disk images without a signed roothash, no update payloads');
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
