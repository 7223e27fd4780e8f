import { copyFile, mkdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { digestOf, exec, openStore, openTools, walk } from '@flatcar/core/engine';
import { debianRoot, unpackRoot } from '../merge/root.ts';
import { chosenOs } from './chosen-os.ts';
import type { Seed } from './seed.ts';

/**
 * gpg, with which systemd-sysupdate verifies signatures: Flatcar has it, but the stand-in of Debian 13 does not. Debian's gpg is merged as an
 * extension in a folder, because /usr is read-only.
 */
export async function gnupg(): Promise<Seed> {
  if (chosenOs() !== 'stand-in') return {};
  const store = openStore();
  const tools = openTools(store);
  const image = await debianRoot(store, tools);
  const { dir } = await store.result('gnupg', digestOf({ number: 1, root: basename(dirname(image)) }), (fresh) =>
    store.withTemp(async (temp) => {
      const root = join(temp, 'root');
      await unpackRoot(tools, image, root);
      const said = await exec('chroot', [root, 'ldd', '/usr/bin/gpg']);
      const libraries = [...said.matchAll(/=> (\/\S+)/g)].map(([, path = '']) => path.replace(/^\/lib/, '/usr/lib'));
      // libc is the stand-in's own
      for (const path of ['/usr/bin/gpg', ...libraries.filter((one) => !/^lib[cm]\.so/.test(basename(one)))]) {
        await mkdir(dirname(join(fresh, path)), { recursive: true });
        await copyFile(join(root, path), join(fresh, path));
      }
    }),
  );
  const extension = '/var/lib/extensions/gnupg';
  const files = (await walk(dir)).filter(({ type }) => type === 'file').map(({ full }) => full);
  return {
    files: { [`${extension}/usr/lib/extension-release.d/extension-release.gnupg`]: 'ID=_any\n' },
    copies: Object.fromEntries(files.map((file) => [`${extension}${file.slice(dir.length)}`, file])),
  };
}
