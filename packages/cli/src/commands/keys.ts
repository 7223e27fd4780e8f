import { resolve } from 'node:path';
import type { Command } from 'commander';
import { show } from '../output/terminal.ts';
import { print } from '../output/output.ts';

/** `keys`: makes and rotates the keys that `publish` and `bind` sign with. */
export function addKeys(root: Command): void {
  const keys = root
    .command('keys')
    .description('make and rotate the keys that publish and bind sign with')
    .addHelpText(
      'after',
      `
A set of keys is a folder: sums/ (OpenPGP, for sums and index), update/ (RSA, for update payloads), roothash.key and roothash.crt
(X.509, for disk images). Commands take it by --keys DIR or FLATCAR_EXT_KEYS.

Examples:
  flatcar-ext keys init ~/dev-keys
  flatcar-ext keys rotate ~/dev-keys            # the next key joins the published keyring, and signs nothing yet
  flatcar-ext keys rotate ~/dev-keys --finish   # once all nodes have that keyring: it signs from now on`,
    );
  keys
    .command('init')
    .description('make a development set in a new folder')
    .argument('<dir>', 'folder, empty or not there yet')
    .action(async (dir: string) => {
      const { initKeys, localPath } = await import('@flatcar/publish');
      await initKeys(resolve(localPath(dir, 'keys init', 'keys are kept in a folder of this machine')));
      print(`a development set of keys is in ${resolve(dir)}; give it by --keys or FLATCAR_EXT_KEYS, and to nobody else`);
    });
  keys
    .command('rotate')
    .description('announce the next OpenPGP key, or with --finish let it sign')
    .argument('<dir>', 'folder that keys init made')
    .option('--finish', 'all nodes have the keyring with the next key: sign by it, and no more by the one before')
    .option('--json', 'print JSON')
    .action(async (dir: string, flags: { finish?: boolean; json?: boolean }) => {
      const { beginRotation, finishRotation, localPath } = await import('@flatcar/publish');
      localPath(dir, 'keys rotate', 'keys are kept in a folder of this machine');
      const finished = flags.finish === true;
      const file = await (finished ? finishRotation(resolve(dir)) : beginRotation(resolve(dir)));
      show({ file, finished }, flags.json, () =>
        finished
          ? `${file} signs from now on; run flatcar-ext publish without images to sign what is published anew`
          : `${file} is announced: publish puts its public half into keys/import-pubring.gpg. When all nodes have that: flatcar-ext keys rotate --finish`,
      );
    });
}
