import { resolve } from 'node:path';
import type { KeySummary, RootChange } from '@flatcar/publish';
import { Option, type Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption, type JsonFlag } from '../options.ts';
import { show, table } from '../output/terminal.ts';

/** Roles of the metadata, and the OpenPGP key of the sums. */
const ROLES = ['root', 'targets', 'snapshot', 'timestamp'] as const;

interface RootFlags extends JsonFlag {
  readonly rootKey?: string[];
}

const rootKeyOption = (): Option =>
  new Option('--root-key <file...>', 'root keys that sign the new root, beside those in the folder: from other media');

/** The absolute path of a folder of keys. */
async function folderOf(dir: string, command: string): Promise<string> {
  const { localPath } = await import('@flatcar/publish');
  return resolve(localPath(dir, command, 'name a folder of this machine'));
}

/** What a person reads of a change of the root. */
function changeText({ version, missing, file, added }: RootChange): string {
  const news = added.map((one) => `${one} is a new key`);
  if (missing.count > 0)
    return [
      ...news,
      `root ${version} waits in ${file} for ${missing.count} more of these root keys: ${missing.of.join(', ')}`,
      'flatcar-ext keys sign DIR --root-key FILE adds signatures',
    ].join('\n');
  return [
    ...news,
    `root ${version} is complete: ${file}`,
    'flatcar-ext publish without folders signs the tree again and publishes the root',
  ].join('\n');
}

function summaryText({ version, expires, fingerprint, roles, sums, certificate }: KeySummary): string {
  return [
    `root ${version}, valid until ${expires}, sha256 ${fingerprint}`,
    table([
      ['role', 'must sign', 'keys'],
      ...roles.map(({ role, threshold, keys }) => [role, `${threshold} of ${keys.length}`, keys.join(' ')]),
    ]),
    ...sums.map((one) => `OpenPGP key of sums: ${one}`),
    ...(certificate === undefined ? [] : [`certificate of disk images: ${certificate}`]),
  ].join('\n');
}

function addInit(keys: Command): void {
  const init = keys
    .command('init')
    .description('make a set of keys in a new folder')
    .argument('<dir>', 'an empty or a new folder')
    .addOption(jsonOption())
    .action(async (dir: string, flags: JsonFlag) => {
      const { initKeys } = await import('@flatcar/publish');
      const folder = await folderOf(dir, 'keys init');
      await initKeys(folder);
      show({ folder }, flags.json, () =>
        [
          `${folder} contains a set of keys`,
          'keep it secret, and pass it as --keys or FLATCAR_EXT_KEYS; README in it lists what may be kept offline',
          `give ${folder}/metadata/1.root.json to those who read the tree`,
        ].join('\n'),
      );
    });
  addHelp(init, {
    examples: ['flatcar-ext keys init ~/dev-keys', 'FLATCAR_EXT_KEYS=~/dev-keys flatcar-ext publish images --tree /srv/extensions'],
  });
}

function addShow(keys: Command): void {
  const command = keys
    .command('show')
    .description('print versions, expiry and fingerprints of public keys, to compare')
    .argument('<path>', 'a folder of keys, a root.json, or a folder of <n>.root.json')
    .addOption(jsonOption())
    .action(async (path: string, flags: JsonFlag) => {
      const { showKeys } = await import('@flatcar/publish');
      show(await showKeys(await folderOf(path, 'keys show')), flags.json, summaryText);
    });
  addHelp(command, { examples: ['flatcar-ext keys show ~/dev-keys', 'flatcar-ext keys show root.json --json'] });
}

function addRotate(keys: Command): void {
  const rotate = keys
    .command('rotate')
    .summary('replace the keys of a role as planned')
    .description('replace the keys of a role; without --role, announce the next OpenPGP key of sums')
    .argument('<dir>', 'folder that keys init made')
    .addOption(new Option('--role <role>', 'the role whose keys are replaced in a new root').choices(ROLES))
    .addOption(rootKeyOption())
    .option('--finish', 'sign sums with the announced OpenPGP key from now on, and no longer with the one before it')
    .addOption(jsonOption())
    .action(async (dir: string, flags: RootFlags & { readonly finish?: boolean; readonly role?: (typeof ROLES)[number] }) => {
      const { beginRotation, finishRotation, rotateRole } = await import('@flatcar/publish');
      const folder = await folderOf(dir, 'keys rotate');
      if (flags.role !== undefined) return show(await rotateRole(folder, flags.role, flags.rootKey), flags.json, changeText);
      const finished = flags.finish === true;
      const file = await (finished ? finishRotation(folder) : beginRotation(folder));
      show({ file, finished }, flags.json, () =>
        finished
          ? `${file} signs from now on\nrun flatcar-ext publish without folders: it signs again what is published`
          : `${file} is announced\npublish adds its public half to keys/import-pubring.gpg; when all nodes have that: flatcar-ext keys rotate --finish`,
      );
    });
  addHelp(rotate, {
    text: [
      'With --role, clients follow by the new root, which the thresholds of the former and the new root keys sign. The former key signs as well until the new root is published, so that the tree can be read at any moment.',
      'OpenPGP keys of sums are replaced in two steps, because systemd-sysupdate knows no roots: announce the key, then sign with it.',
    ],
    examples: [
      'flatcar-ext keys rotate ~/dev-keys --role timestamp --root-key /media/a/root-1.key.pem /media/b/root-2.key.pem',
      '# publish announces the next OpenPGP key, which signs nothing yet',
      'flatcar-ext keys rotate ~/dev-keys',
      '# when all nodes have that keyring, it signs from now on',
      'flatcar-ext keys rotate ~/dev-keys --finish',
    ],
  });
}

function addRevoke(keys: Command): void {
  const command = keys
    .command('revoke')
    .summary('replace a key that somebody else may have')
    .description('replace a key that somebody else may have by a new key, in a new root')
    .argument('<dir>', 'folder that keys init made')
    .argument('<id>', 'ID of the key, as keys show prints it, or its first 8 digits or more')
    .addOption(rootKeyOption())
    .addOption(jsonOption())
    .action(async (dir: string, id: string, flags: RootFlags) => {
      const { revokeKey } = await import('@flatcar/publish');
      show(await revokeKey(await folderOf(dir, 'keys revoke'), id, flags.rootKey), flags.json, changeText);
    });
  addHelp(command, {
    text: [
      'The revoked key signs nothing any more. Publish at once: clients trust the former key until they have the new root. If the key is one of targets, compare the published tree with a copy that you trust first; publish asks for --accept-revoked.',
    ],
    examples: ['flatcar-ext keys revoke ~/keys 3fd6a2c1', 'flatcar-ext keys revoke ~/keys 3fd6a2c1 --root-key /media/a/root-1.key.pem'],
  });
}

function addSign(keys: Command): void {
  const command = keys
    .command('sign')
    .description('add signatures of root keys to a new root that waits for them')
    .argument('<dir>', 'folder in which keys rotate or keys revoke began a new root')
    .addOption(rootKeyOption())
    .addOption(jsonOption())
    .action(async (dir: string, flags: RootFlags) => {
      const { signRoot } = await import('@flatcar/publish');
      show(await signRoot(await folderOf(dir, 'keys sign'), flags.rootKey), flags.json, changeText);
    });
  addHelp(command, {
    examples: ['flatcar-ext keys sign ~/keys --root-key /media/b/root-2.key.pem', 'flatcar-ext keys sign ~/keys --json'],
  });
}

/** `keys`: makes, compares and replaces the keys that `publish` and `bind` sign with. */
export function addKeys(root: Command): void {
  const keys = root.command('keys').description('make, compare and replace the keys that publish and bind sign with');
  addInit(keys);
  addShow(keys);
  addRotate(keys);
  addRevoke(keys);
  addSign(keys);
  addHelp(keys, {
    text: [
      'A set of keys is a folder: metadata/ (the root of trust and the keys of its roles), sums/ (OpenPGP, for sums), update/ (RSA, for update payloads), roothash.key and roothash.crt (X.509, for disk images).',
    ],
    examples: ['flatcar-ext keys init ~/dev-keys', 'flatcar-ext publish images --tree /srv/extensions --keys ~/dev-keys'],
  });
}
