import { resolve } from 'node:path';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption, type JsonFlag } from '../options.ts';
import { show } from '../output/terminal.ts';

/** `keys`: makes and rotates the keys that `publish` and `bind` sign with. */
export function addKeys(root: Command): void {
  const keys = root.command('keys').description('make and rotate the keys that publish and bind sign with');
  const init = keys
    .command('init')
    .description('make a set of keys for development in a new folder')
    .argument('<dir>', 'an empty or a new folder')
    .addOption(jsonOption())
    .action(async (dir: string, flags: JsonFlag) => {
      const { initKeys, localPath } = await import('@flatcar/publish');
      const folder = resolve(localPath(dir, 'keys init', 'name a folder of this machine'));
      await initKeys(folder);
      show(
        { folder },
        flags.json,
        () => `${folder} contains a set of keys for development\nkeep it secret, and pass it as --keys or FLATCAR_EXT_KEYS`,
      );
    });
  const rotate = keys
    .command('rotate')
    .description('announce the next OpenPGP key; with --finish, sign with it')
    .argument('<dir>', 'folder that keys init made')
    .option('--finish', 'sign with the announced key from now on, and no longer with the one before it')
    .addOption(jsonOption())
    .action(async (dir: string, flags: JsonFlag & { readonly finish?: boolean }) => {
      const { beginRotation, finishRotation, localPath } = await import('@flatcar/publish');
      const folder = resolve(localPath(dir, 'keys rotate', 'name a folder of this machine'));
      const finished = flags.finish === true;
      const file = await (finished ? finishRotation(folder) : beginRotation(folder));
      show({ file, finished }, flags.json, () =>
        finished
          ? `${file} signs from now on\nrun flatcar-ext publish without folders: it signs again what is published`
          : `${file} is announced\npublish adds its public half to keys/import-pubring.gpg; when all nodes have that: flatcar-ext keys rotate --finish`,
      );
    });
  addHelp(keys, {
    text: [
      'A set of keys is a folder: sums/ (OpenPGP, for sums and index), update/ (RSA, for update payloads), roothash.key and roothash.crt (X.509, for disk images).',
    ],
    examples: ['flatcar-ext keys init ~/dev-keys', 'flatcar-ext publish images --tree /srv/extensions --keys ~/dev-keys'],
  });
  addHelp(init, {
    examples: ['flatcar-ext keys init ~/dev-keys', 'FLATCAR_EXT_KEYS=~/dev-keys flatcar-ext publish images --tree /srv/extensions'],
  });
  addHelp(rotate, {
    examples: [
      '# publish adds the next key to the published keyring; it signs nothing yet',
      'flatcar-ext keys rotate ~/dev-keys',
      '# when all nodes have that keyring, it signs from now on',
      'flatcar-ext keys rotate ~/dev-keys --finish',
    ],
  });
}
