import { basename, join } from 'node:path';
import { exec, openStore } from '@flatcar/core';
import { debianRoot } from '../root.ts';
import { chosenOs } from './os.ts';
import type { Seed } from './seed.ts';

/**
 * gpg, by which systemd-sysupdate verifies; Flatcar has it, and the stand-in of Debian 13 has it not. Debian 13's own,
 * merged as an extension that is a folder, since nothing can be written into /usr.
 */
export async function gnupg(): Promise<Seed> {
  if (chosenOs() !== 'stand-in') return {};
  const root = await debianRoot(openStore());
  const extension = '/var/lib/extensions/gnupg';
  const said = await exec('chroot', [root, 'ldd', '/usr/bin/gpg']);
  const libraries = [...said.matchAll(/=> (\/\S+)/g)].map(([, path = '']) => path.replace(/^\/lib/, '/usr/lib'));
  const paths = ['/usr/bin/gpg', ...libraries.filter((path) => !/^lib[cm]\.so/.test(basename(path)))]; // libc is the stand-in's own
  return {
    files: { [`${extension}/usr/lib/extension-release.d/extension-release.gnupg`]: 'ID=_any\n' },
    copies: Object.fromEntries(paths.map((path) => [`${extension}${path}`, join(root, path)])),
  };
}
