import { Option, type Command } from 'commander';
import type { JsonFlag } from './options.ts';

export const keysOption = (): Option =>
  new Option('--keys <dir>', 'folder of keys, as flatcar-ext keys init makes it').env('FLATCAR_EXT_KEYS');
/** Of commands that read a published tree. */
export const rootOption = (): Option =>
  new Option('--root <path>', "the publisher's root of trust that verifies the tree: root.json, or a folder of <n>.root.json").env(
    'FLATCAR_EXT_ROOT',
  );
export const firstUseOption = (): Option =>
  new Option('--trust-first-use', "without --root: accept the tree's own root when the tree is first read, and remember it");
export const baseUrlOption = (): Option =>
  new Option('--base-url <url>', 'URL under which the tree is served, for transfer files')
    .default(undefined, 'that of the tree')
    .env('FLATCAR_EXT_BASE_URL');
/** Of commands that write a published tree. */
export const treeOption = (): Option =>
  new Option('--tree <where>', 'the published tree: a folder, or s3://bucket/prefix').makeOptionMandatory();
export const assetsOption = (): Option =>
  new Option('--assets <where>', 'store images in releases of a repository, github:owner/name, with redirects to them in the tree');

/** Of commands that read a published tree. */
export const readTreeOption = (): Option => new Option('--tree <where>', 'the published tree: a folder, https://… or s3://bucket/prefix');

/** Options of commands that read a published tree. */
export interface TreeFlags extends JsonFlag {
  readonly tree: string;
  readonly keys?: string;
  readonly root?: string;
  readonly trustFirstUse?: boolean;
}

/** Adds the options of commands that read a published tree. */
export function addTreeOptions(command: Command, tree = readTreeOption().makeOptionMandatory()): Command {
  return command.addOption(tree).addOption(rootOption()).addOption(firstUseOption()).addOption(keysOption());
}

/** Options of all commands that sign a tree. */
export interface SigningFlags {
  readonly keys?: string;
  readonly keyring?: string;
  readonly root?: string;
  readonly unsigned?: boolean;
}

/** Adds the options of commands that sign a tree. */
export function addSigningOptions(command: Command): Command {
  return command
    .addOption(keysOption())
    .addOption(
      new Option('--root <path>', 'folder of the roots of trust, <n>.root.json, instead of those in --keys').env('FLATCAR_EXT_ROOT'),
    )
    .addOption(
      new Option('--keyring <file>', 'more OpenPGP public keys that nodes trust: they are published with the keys that sign').env(
        'FLATCAR_EXT_KEYRING',
      ),
    )
    .option('--unsigned', 'publish without a key that is missing: disk images without a signed roothash, no update payloads');
}
