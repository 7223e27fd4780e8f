import { access } from 'node:fs/promises';
import { resolve } from 'node:path';
import { readManifest, replacedBuiltIns, UserError, type Image, type Store, type Tools } from '@flatcar/core/engine';
import type { Boot, BootOptions } from './boot.ts';
import { chosenOs } from './chosen-os.ts';
import { flatcarBoot, flatcarImage } from './flatcar.ts';
import type { Seed } from './seed.ts';
import { standIn, standInBoot } from './stand-in.ts';

/** Prepares the chosen operating system, with images and everything else that it gets on its first boot. */
export async function bootOf(store: Store, tools: Tools, seed: Seed, images: readonly Image[], options: BootOptions): Promise<Boot> {
  const chosen = chosenOs();
  const { release, arch } = options;
  if (chosen === 'stand-in') return standInBoot(store, tools, await standIn(store, tools, release.mergeStage, arch), seed, options);
  const image = chosen === 'flatcar' ? await flatcarImage(store, tools, release, arch) : resolve(chosen);
  await access(image).catch((cause: unknown) => {
    throw new UserError('the image does not exist', { where: image, next: 'pass --os stand-in, flatcar or the path of an image', cause });
  });
  const replaced = await Promise.all(images.map(async ({ file }) => (await readManifest(file)).replaces));
  const off = Object.fromEntries(replacedBuiltIns(replaced.flat()).map(({ path, target }) => [path, target]));
  return flatcarBoot(tools, image, { ...seed, links: { ...seed.links, ...off } }, options);
}
