import { glob } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  ARCHES,
  buildExtension,
  catalogue,
  channelHead,
  hostArch,
  linkName,
  loadDefinition,
  loadExtension,
  newestFirst,
  openStore,
  openTools,
  targetName,
  type Arch,
  type Image,
  type OriginChoice,
  type Store,
  type Target,
} from '@flatcar/core/engine';
import { expect } from 'vitest';
import { WITHOUT_VERITY, withHost, type Host } from './merge/host.ts';
import { extensionFolder } from './folders.ts';
import { record } from './ledger.ts';
import { checkSpec } from './spec.ts';
import { isCollected, mergeTest } from './levels.ts';
import type { MachineTest } from './machine/extensions.ts';
import { expectHostCas, type TlsChecks } from './server/tls.ts';

/** A command and what it must say; a version is the pinned one, the extension's or what pins.json has under that name, so that a bump changes no test. */
export interface Command {
  /**
   * The program and its arguments.
   * @example ['yq', '--version']
   */
  readonly run: readonly string[];
  /**
   * Environment variables.
   * @default {}
   * @example { TERM: 'xterm' }
   */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * What it prints: a pattern, the pinned version of the extension, or that of a coupled component.
   * @example 'version'
   */
  readonly says: RegExp | 'version' | { readonly version: string };
}

/** Pinned versions by name: `version` is the extension's own, the others are those of `with` in pins.json. */
export type PinnedVersions = Readonly<Record<string, string>>;

/** What an extension's own test says of it; everything else is the same for all. */
export interface ExtensionTest {
  /**
   * What the extension is.
   * @default 'sysext'
   * @example 'confext'
   */
  readonly kind?: 'sysext' | 'confext';
  /**
   * Commands that must work once the image is merged.
   * @example [{ run: ['yq', '--version'], says: 'version' }]
   */
  readonly commands: readonly Command[];
  /**
   * Units that `systemd-analyze verify` must find nothing wrong with.
   * @default []
   * @example ['node-exporter.service']
   */
  readonly units?: readonly string[];
  /**
   * Paths that must exist after systemd-tmpfiles has run.
   * @default []
   * @example ['/var/lib/tool']
   */
  readonly paths?: readonly string[];
  /**
   * Components that the test is about, where others can only be had from upstream.
   * @default all
   * @example ['wasmtime']
   */
  readonly only?: readonly string[];
  /**
   * Version that the test is about.
   * @default the newest
   * @example '1.36.4'
   */
  readonly version?: string;
  /**
   * Where its components come from.
   * @default 'auto'
   * @example 'source'
   */
  readonly origin?: OriginChoice;
  /**
   * Of an image with a TLS library: its programs that verify servers by the host's CAs, or why there are none.
   * @example { programs: [{ run: ({ url }) => ['curl', url], accepts: /hello/, refuses: /certificate/ }] }
   */
  readonly tls?: TlsChecks;
  /**
   * What only a booted machine shows; the commands run there too.
   * @example { active: ['node-exporter.service'], ports: [9100] }
   */
  readonly machine?: MachineTest;
  /**
   * More to check in the merged host.
   * @example async (host) => { expect(await host.exists('/usr/bin/yq')).toBe(true); }
   */
  readonly also?: (host: Host, arch: Arch, versions: PinnedVersions) => Promise<void>;
  /**
   * True for the extension of its origin and kind that `npm test` builds and merges on a bare machine. The others are left to `npm run
   * test:all`.
   * @default false
   * @example true
   */
  readonly small?: boolean;
}

/** A version as a word of its own: 1.2.3 is not in 11.2.3, nor in 1.2.30. */
export const versionPattern = (version = ''): RegExp => new RegExp(`(?<![\\d.])${RegExp.escape(version)}(?!\\d|\\.\\d)`);

/** What a command must say. */
export function expectedAnswer({ says }: Command, versions: PinnedVersions): RegExp {
  if (says instanceof RegExp) return says;
  const name = says === 'version' ? says : says.version;
  const version = versions[name];
  if (version === undefined) throw new Error(`pins.json has no version of '${name}': there are ${Object.keys(versions).join(', ')}`);
  return versionPattern(version);
}

/** The versions that an extension's test is about. */
export async function pinnedVersions(dir: string, { version: wanted }: Pick<ExtensionTest, 'version'>): Promise<PinnedVersions> {
  const { pins } = await loadExtension(dir);
  const version = wanted ?? newestFirst(Object.keys(pins))[0] ?? '';
  return { ...pins[version]?.with, version };
}

/** What systemd-sysext says of the one image that it merges; from systemd 257 on the file's suffix follows. */
export const merged = (link: string): RegExp => new RegExp(`Using extensions (?:'[^']*', )*'${RegExp.escape(link.replace(/\.raw$/, ''))}`);

/** Folder of the images that tests have built of an extension. */
const testImages = (store: Store, name: string): string => join(store.root, 'test-images', name);

/** True when tests have built an extension's image of its newest version on this machine before, so that it need not be compiled. */
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
  const there = built.get(key);
  if (there !== undefined) return there;
  const making = (async () => {
    const loaded = await loadExtension(dir);
    const { version = '' } = await pinnedVersions(dir, wanted === undefined ? {} : { version: wanted });
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
      ...(only === undefined ? {} : { only }),
    });
    await record(`${loaded.extension.name} for ${arch}`, cached, started);
    return images;
  })();
  built.set(key, making);
  return making;
}

/** Extensions that one requires, and those that these require, by name. */
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

/** The images that an extension must have merged beside it, for one target. */
export async function imagesBeside(dir: string, arch: Arch, target: Target): Promise<Image[]> {
  const images: Image[] = [];
  for (const name of await requiredBy(dir)) {
    const [image] = await buildImages(join(dirname(dir), name), arch, [target]);
    if (image === undefined) throw new Error(`the build of '${name}' made no image`);
    images.push(image);
  }
  return images;
}

/** Installs the images that an extension must have merged beside it; gives their links. */
export async function installBeside(host: Host, dir: string, arch: Arch, target: Target): Promise<string[]> {
  const links: string[] = [];
  for (const { file, extension } of await imagesBeside(dir, arch, target)) {
    const link = linkName(extension, target);
    await host.install(file, link);
    links.push(link);
  }
  return links;
}

/**
 * The merge tests of an extension, one host for each architecture: its portable, its release-bound squashfs and its disk image
 * merge where they must, are ignored where they must not, the one for the running release merges among several, and the
 * programs run out of them.
 */
export function testExtension(folder: string, about: ExtensionTest): void {
  checkSpec('testExtension', folder, about);
  const dir = extensionFolder(folder);
  if (isCollected({ dir, about })) return;
  const kind = about.kind ?? 'sysext';
  const bound = channelHead('stable');
  const other = '4081.3.10';
  const ddi = channelHead('beta');
  const previous = catalogue().filter(({ channel }) => channel === 'stable')[1] ?? ddi;
  const targets: readonly Target[] = ['portable', bound, previous, ddi];
  for (const arch of ARCHES) {
    // Another architecture's image merges only by force: that it is refused is asserted beside.
    const force = arch !== hostArch();
    mergeTest(
      `${arch}: merges where it must and nowhere else, and its programs run`,
      async () => {
        const images = await buildImages(dir, arch, targets, about);
        const versions = await pinnedVersions(dir, about);
        const imageFor = (target: Target): { file: string; link: string } => {
          const image = images.find((one) => one.target === targetName(target));
          if (image === undefined) throw new Error(`the build made no image for ${targetName(target)}`);
          return { file: image.file, link: linkName(image.extension, target) };
        };
        await withHost({ release: bound.number, kind }, async (host) => {
          for (const target of ['portable', bound, ddi] as const) {
            const what = targetName(target);
            const policy = target !== 'portable' && target.format === 'ddi' ? WITHOUT_VERITY : undefined;
            const options = { force, ...(policy === undefined ? {} : { policy }) };
            const { file, link } = imageFor(target);
            await host.setRelease(target === 'portable' ? bound.number : target.number);
            await host.install(file, link);
            const beside = await installBeside(host, dir, arch, target);
            if (force)
              expect(await host.merge({ ...options, force: false }), what).toMatch(/no suitable extensions found|ignored|incompatible/i);
            expect(await host.merge(options), what).toMatch(merged(link));
            // A bound squashfs is the portable one but for its release file.
            if (target !== bound) await runPrograms(host, arch, versions, about);
            if (target === 'portable' && about.tls !== undefined) await expectHostCas(host, arch, about.tls);
            if (target !== 'portable' && !force) {
              await host.setRelease(other);
              expect(await host.merge(options), `${what} on ${other}`).not.toContain('Using extensions');
              // The same image at its own number: the refusal was about the release and nothing else.
              await host.setRelease(target.number);
              expect(await host.merge(options), what).toMatch(merged(link));
            }
            for (const one of [link, ...beside]) await host.remove(one);
          }
          if (force) return;
          for (const release of [bound, previous]) {
            await host.install(imageFor(release).file, imageFor(release).link);
            await installBeside(host, dir, arch, release);
          }
          for (const [release, absent] of [
            [bound, previous],
            [previous, bound],
            [bound, previous],
          ] as const) {
            await host.setRelease(release.number);
            const said = await host.merge();
            expect(said, 'side by side').toMatch(merged(imageFor(release).link));
            expect(said.split('\n').find((line) => line.startsWith('Using'))).not.toContain(absent.number);
          }
        });
      },
      about,
    );
  }
}

/** Runs what a test says of the programs, units and paths of a merged extension. */
async function runPrograms(host: Host, arch: Arch, versions: PinnedVersions, about: ExtensionTest): Promise<void> {
  for (const command of about.commands) {
    const { run, env = {} } = command;
    expect(await host.run(run, { arch, env }), run.join(' ')).toMatch(expectedAnswer(command, versions));
  }
  for (const unit of about.units ?? []) expect(await host.run(['systemd-analyze', 'verify', '--man=no', unit]), unit).toBe('');
  await host.run(['systemd-tmpfiles', '--create']);
  for (const path of about.paths ?? []) expect(await host.exists(path), path).toBe(true);
  await about.also?.(host, arch, versions);
}
