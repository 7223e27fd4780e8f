import { link, mkdir, realpath, symlink, writeFile, copyFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exec, type Store } from '@flatcar/core/engine';

/** Files and links that Ignition writes on a node's first boot. */
export interface Seed {
  /** Path on the node to the text of the file. */
  readonly files?: Readonly<Record<string, string>>;
  /** Path on the node to a file of this machine. */
  readonly copies?: Readonly<Record<string, string>>;
  /** Path on the node to the target of a link. */
  readonly links?: Readonly<Record<string, string>>;
}

/** 0755 for programs, which their first line or folder shows; 0644 for everything else. */
export const modeOf = (path: string, text: string): number => (text.startsWith('#!') || path.includes('/bin/') ? 0o755 : 0o644);

/** Writes a seed as the tar that the stand-in's initrd unpacks over the root on the first boot. */
export async function writeSeed(store: Store, seed: Seed, out: string): Promise<void> {
  await store.withTemp(async (temp) => {
    const paths: string[] = [];
    const place = async (path: string, put: (to: string) => Promise<void>): Promise<void> => {
      const to = join(temp, path);
      await mkdir(dirname(to), { recursive: true });
      await put(to);
      paths.push(path.replace(/^\/+/, ''));
    };
    for (const [path, text] of Object.entries(seed.files ?? {}))
      await place(path, (to) => writeFile(to, text, { mode: modeOf(path, text) }));
    for (const [path, from] of Object.entries(seed.copies ?? {}))
      await place(path, async (to) => {
        const file = await realpath(from);
        await link(file, to).catch(() => copyFile(file, to)); // the store may be on another disk
      });
    for (const [path, target] of Object.entries(seed.links ?? {})) await place(path, (to) => symlink(target, to));
    // Files only: the folders on the node keep their modes.
    const owners = ['--owner=0', '--group=0', '--mode=u=rwX,go=rX'];
    const input = paths.map((path) => `${path}\0`).join('');
    const list = ['--hard-dereference', '--null', '--files-from=-'];
    await exec('tar', ['--create', `--file=${out}`, `--directory=${temp}`, ...owners, ...list], { input });
  });
}
