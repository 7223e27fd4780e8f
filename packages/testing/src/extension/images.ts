import { glob } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  buildExtension,
  linkName,
  loadDefinition,
  loadExtension,
  newestFirst,
  openStore,
  openTools,
  type Arch,
  type Image,
  type Store,
  type Target,
} from '@flatcar/core/engine';
import { extensionFolder } from '../folders.ts';
import type { Host } from '../hosts.ts';
import { record } from '../ledger.ts';
import type { Command, ExtensionTest, PinnedVersions } from '../spec.ts';

/** Matches a version as a separate word: 1.2.3 is in neither 11.2.3 nor 1.2.30. */
export const versionPattern = (version = ''): RegExp => new RegExp(`(?<![\\d.])${RegExp.escape(version)}(?!\\d|\\.\\d)`);

/** What a command must print. Throws an Error if pins.json does not have the version that it names. */
export function expectedAnswer({ says }: Command, versions: PinnedVersions): RegExp {
  if (says instanceof RegExp) return says;
  const name = says === 'version' ? says : says.version;
  const version = versions[name];
  if (version === undefined) throw new Error(`pins.json: no version of '${name}'; it has ${Object.keys(versions).join(', ')}`);
  return versionPattern(version);
}

/** The versions that an extension's test is about: by default the newest one that is pinned, and those of its coupled components. */
export async function pinnedVersions(dir: string, { version: wanted }: Pick<ExtensionTest, 'version'>): Promise<PinnedVersions> {
  const { pins } = await loadExtension(dir);
  const version = wanted ?? newestFirst(Object.keys(pins))[0] ?? '';
  return { ...pins[version]?.coupled, version };
}

/** What systemd-sysext reports for the one image that it merges; systemd 257 and later add the file's suffix. */
export const merged = (link: string): RegExp => new RegExp(`Using extensions (?:'[^']*', )*'${RegExp.escape(link.replace(/\.raw$/, ''))}`);

/** Folder of the images of an extension that tests have built. */
const testImages = (store: Store, name: string): string => join(store.root, 'test-images', name);

/** True if tests have already built the image of an extension's newest version on this machine. */
export async function wasBuilt(dir: string, arch: Arch): Promise<boolean> {
  const { version = '' } = await pinnedVersions(dir, {});
  const name = basename(dir);
  const found = await Array.fromAsync(glob(`*/${name}.*_${version}{,-*}_${arch}.raw`, { cwd: testImages(openStore(), name) }));
  return found.length > 0;
}

const built = new Map<string, Promise<readonly Image[]>>();

/** Images of the extension that a folder is in or is, from the store if they were built before. */
export function buildImages(
  folder: string,
  arch: Arch,
  targets: readonly Target[],
  { only, version: wanted, origin = 'auto' }: Pick<ExtensionTest, 'only' | 'version' | 'origin'> = {},
): Promise<readonly Image[]> {
  const dir = extensionFolder(folder);
  const key = `${dir} ${arch} ${JSON.stringify(targets)} ${only?.join(',') ?? ''} ${wanted ?? ''} ${origin}`;
  const earlier = built.get(key);
  if (earlier !== undefined) return earlier;
  const building = (async () => {
    const loaded = await loadExtension(dir);
    const { version = '' } = await pinnedVersions(dir, { version: wanted });
    const store = openStore();
    const started = Date.now();
    let cached = true;
    const report = (event: { type: string; text?: string }): void => {
      if (event.type !== 'step') return;
      cached = false;
      console.error(event.text);
    };
    const out = testImages(store, loaded.extension.name);
    const { images } = await buildExtension(loaded, {
      version,
      arch,
      targets,
      profile: 'fast',
      origin,
      out,
      store,
      tools: openTools(store, report),
      report,
      only,
    });
    await record(`${loaded.extension.name} for ${arch}`, cached, started);
    return images;
  })();
  built.set(key, building);
  return building;
}

/** Names of the extensions that an extension requires, directly or not. */
export async function requiredBy(dir: string): Promise<string[]> {
  const found = new Set<string>();
  const add = async (of: string): Promise<void> => {
    for (const name of (await loadDefinition(of)).requires)
      if (!found.has(name)) {
        found.add(name);
        await add(join(dirname(of), name));
      }
  };
  await add(dir);
  return [...found];
}

/** Images of the extensions that an extension requires, for one target. */
export async function imagesBeside(dir: string, arch: Arch, target: Target): Promise<Image[]> {
  const images: Image[] = [];
  for (const name of await requiredBy(dir)) {
    const [image] = await buildImages(join(dirname(dir), name), arch, [target]);
    if (image === undefined) throw new Error(`the build of '${name}' wrote no image`);
    images.push(image);
  }
  return images;
}

/** Installs the images that an extension requires; returns the names of their links. */
export async function installBeside(host: Host, dir: string, arch: Arch, target: Target): Promise<string[]> {
  const links: string[] = [];
  for (const { file, extension } of await imagesBeside(dir, arch, target)) {
    const link = linkName(extension, target);
    await host.install(file, link);
    links.push(link);
  }
  return links;
}
