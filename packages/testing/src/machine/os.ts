import { access } from 'node:fs/promises';
import { resolve } from 'node:path';
import {
  readManifest,
  replacedBuiltIns,
  UserError,
  type Arch,
  type Image,
  type Release,
  type Store,
  type Tools,
} from '@flatcar/core/engine';
import { flatcarBoot, flatcarImage } from './flatcar.ts';
import type { Seed } from './seed.ts';
import { standIn, standInBoot } from './stand-in.ts';

/** What is booted, and where its files may be written. */
export interface BootOptions {
  readonly release: Release;
  readonly arch: Arch;
  readonly network: boolean;
  readonly temp: string;
}

/** An operating system, ready for one machine. */
export interface Boot extends AsyncDisposable {
  /** QEMU's arguments for a start, with the /usr of a release. */
  args(release: Release): Promise<readonly string[]>;
  /** True when it starts by its own boot loader, for which arm64's board needs firmware. */
  readonly firmware: boolean;
  /** Arguments of a start that leaves no trace, and what its console shows once a guest really runs. */
  readonly probe: { readonly args: readonly string[]; readonly shows: RegExp };
}

/** Which operating system machines boot, as `flatcar-ext test --os` says: `stand-in`, `flatcar` or the path of an image. */
export const chosenOs = (): string => (JSON.parse(process.env['FLATCAR_EXT_MACHINES'] ?? '{}') as { os?: string }).os ?? 'stand-in';

/** Skips a test that only a stand-in can do. */
export const standInOnly =
  (why: string) =>
  async (skip: (why: string) => never): Promise<void> => {
    if (chosenOs() !== 'stand-in') skip(why);
  };

/** Makes the chosen operating system ready, with images and what else it gets on its first boot. */
export async function bootOf(store: Store, tools: Tools, seed: Seed, images: readonly Image[], options: BootOptions): Promise<Boot> {
  const chosen = chosenOs();
  const { release, arch } = options;
  if (chosen === 'stand-in') return standInBoot(store, tools, await standIn(store, tools, release.era, arch), seed, options);
  const image = chosen === 'flatcar' ? await flatcarImage(store, tools, release, arch) : resolve(chosen);
  await access(image).catch((cause: unknown) => {
    throw new UserError('there is no such image', { where: image, next: 'give --os stand-in, flatcar or the path of an image', cause });
  });
  const replaced = await Promise.all(images.map(async ({ file }) => (await readManifest(file)).replaces));
  const off = Object.fromEntries(replacedBuiltIns(replaced.flat()).map(({ path, target }) => [path, target]));
  return flatcarBoot(tools, image, { ...seed, links: { ...seed.links, ...off } }, options);
}
