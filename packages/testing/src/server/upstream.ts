import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  ARCHES,
  buildExtension,
  channelHead,
  componentsOf,
  exec,
  FIRST_DOWNLOAD,
  hostArch,
  linkName,
  loadExtension,
  locatorOf,
  newestFirst,
  openStore,
  openTools,
  type Arch,
  type BuildResult,
  type Component,
  type Pins,
  type Store,
} from '@flatcar/core/engine';
import { expect } from 'vitest';
import { withHost, type Host } from '../merge/host.ts';
import { extensionFolder, testFolder } from '../folders.ts';
import { describe, isCollected, mergeTest } from '../levels.ts';
import { checkSpec } from '../spec.ts';
import type { MachineTest } from '../machine/extensions.ts';

/**
 * What upstream's archives hold (`a -> b` is a link), by a pattern of their file names: the default of an extension's `test/upstream-layout.ts`. A raw file needs
 * none; of an archive without one, only what the definition takes out of it is known.
 */
export type Layouts = readonly (readonly [name: RegExp, members: readonly string[]])[];

/** What is said of an extension whose upstreams cannot be reached from here, with archives of the layout that theirs have. */
export interface UpstreamTest {
  readonly version?: string;
  /** Programs that must come out of the merged image. */
  readonly programs: readonly string[];
  readonly paths?: readonly string[];
  /** What a booted machine shows of upstream's own files; skipped where they cannot be had. */
  readonly machine?: MachineTest;
  readonly also?: (host: Host) => Promise<void>;
  /** True for the one that `npm test` runs for all. */
  readonly small?: boolean;
}

const COMPRESS: Readonly<Record<string, readonly [string, readonly string[]]>> = {
  bz2: ['bzip2', []],
  xz: ['xz', []],
  gz: ['gzip', ['-n']],
  tgz: ['gzip', ['-n']],
  zst: ['zstd', ['--rm']],
  zstd: ['zstd', ['--rm']],
};

/** What stands in for a program of upstream's: it says which one it is, and where from. */
const program = (name: string, url: string): string => `#!/bin/sh\necho ${name} of upstream, ${url} "$@"\n`;

async function layoutsOf(dir: string): Promise<Layouts> {
  const file = join(testFolder(dir), 'upstream-layout.ts');
  if (!existsSync(file)) return [];
  return ((await import(pathToFileURL(file).href)) as { default: Layouts }).default;
}

/** Writes a file as upstream publishes it: an archive of the kind that its name says, or a raw program. */
async function writeUpstream(file: string, url: string, takers: readonly Component[], layouts: Layouts): Promise<void> {
  const name = basename(file);
  const [, suffix] = /\.(?:tar\.)?(gz|tgz|bz2|xz|zstd?)$/.exec(name) ?? [];
  await mkdir(dirname(file), { recursive: true });
  if (suffix === undefined) return writeFile(file, program(takers[0]?.name ?? name, url));
  const known = layouts.find(([pattern]) => pattern.test(name));
  const members = known?.[1] ?? takers.flatMap(({ places }) => places.map(({ from }) => from.replaceAll('*', 'any')));
  const tree = `${file}.d`;
  for (const member of members) {
    const [name = '', target] = member.split(' -> ');
    const path = join(tree, name);
    await mkdir(dirname(path), { recursive: true });
    if (target !== undefined) {
      await symlink(target, path);
      continue;
    }
    await writeFile(path, program(basename(member), url));
    await chmod(path, 0o755);
  }
  const [command = '', args = []] = COMPRESS[suffix] ?? [];
  await exec('tar', [
    '--sort=name',
    '--owner=0',
    '--group=0',
    '--mtime=@1',
    '-cf',
    `${file}.tar`,
    '-C',
    tree,
    ...members.map((member) => member.split(' -> ')[0] ?? ''),
  ]);
  const made = suffix === 'tgz' ? 'gz' : suffix === 'zstd' ? 'zst' : suffix;
  await exec(command, [...args, `${file}.tar`]);
  await rename(`${file}.tar.${made}`, file);
}

/** Serves, in place of every upstream host, files of the names and layouts that an extension's pins speak of; and builds from it. */
export interface Upstream {
  /**
   * Builds from the served files only; pins of its own stand in for the digests of the real ones. `standIns` are the URLs of
   * upstream's that a served file stands in for.
   */
  build(dir: string, version: string, arch: Arch): Promise<BuildResult & { readonly standIns: readonly string[] }>;
}

/** Gives such an upstream, and closes it afterwards. */
export async function withUpstream(use: (upstream: Upstream, store: Store) => Promise<void>): Promise<void> {
  const store = openStore();
  await store.withTemp(async (temp) => {
    const root = join(temp, 'hosts');
    const server = createServer((request, response) => {
      createReadStream(join(root, decodeURIComponent(request.url ?? '')))
        .on('error', () => response.writeHead(404).end())
        .pipe(response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const digests = new Map<string, string>();

    /** Pins with all that the locks of shared components have, and the digests of the files that are served. */
    async function fixturePins(dir: string, version: string, arch: Arch): Promise<{ file: string; standIns: string[] }> {
      const layouts = await layoutsOf(dir);
      const { pin, components } = await componentsOf(await loadExtension(dir), version);
      const bytes: Record<string, Pins[string]['bytes'][string]> = {};
      const licenses: Record<string, string> = {};
      const standIns: string[] = [];
      for (const { component, pin: own } of components) {
        Object.assign(licenses, own.licenses);
        for (const [locator, pinned] of Object.entries(own.bytes)) bytes[locator] ??= pinned;
        for (const origin of component.origins) {
          const locator = locatorOf(origin, component, arch);
          if (origin.kind !== 'release' || locator === undefined || own.bytes[locator] === undefined) continue;
          let sha256 = digests.get(locator);
          if (sha256 === undefined) {
            const file = join(root, decodeURIComponent(locator.slice('https:/'.length)));
            const takers = components.filter((one) => one.component.origins.some((its) => locatorOf(its, one.component, arch) === locator));
            await writeUpstream(
              file,
              locator,
              takers.map((one) => one.component),
              layouts,
            );
            sha256 = createHash('sha256')
              .update(await readFile(file))
              .digest('hex');
            digests.set(locator, sha256);
          }
          bytes[locator] = { sha256, proof: FIRST_DOWNLOAD };
          if (!standIns.includes(locator)) standIns.push(locator);
        }
      }
      const file = join(temp, `${basename(dir)}-${version}-${arch}.json`);
      await writeFile(file, JSON.stringify({ [version]: { ...pin, licenses, bytes } }));
      return { file, standIns };
    }

    try {
      await use(
        {
          async build(dir, version, arch) {
            const { file, standIns } = await fixturePins(dir, version, arch);
            const loaded = await loadExtension(dir, file);
            const built = await buildExtension(loaded, {
              version,
              arch,
              targets: [loaded.extension.bound ? channelHead('stable') : 'portable'],
              profile: 'fast',
              origin: 'release',
              out: join(temp, 'out', basename(dir), version),
              store,
              tools: openTools(store),
              report: () => undefined,
              mirror,
            });
            return { ...built, standIns };
          },
        },
        store,
      );
    } finally {
      server.close();
      await rm(root, { recursive: true, force: true });
    }
  });
}

/**
 * Tests an extension's `release` route end to end, on both architectures: fetch, verify, unpack, stage, pack, merge, run. What
 * upstream publishes is stood in for, as its hosts cannot be reached from where only package registries are: the test's name says
 * so, and its output says for which URLs.
 */
export function testUpstream(folder: string, about: UpstreamTest): void {
  checkSpec('testUpstream', folder, about);
  const dir = extensionFolder(folder);
  if (about.machine !== undefined && isCollected({ dir, about: { commands: [], machine: about.machine } })) return;
  describe("files of upstream's names and layouts (fixtures, not upstream's own)", () => {
    mergeTest(
      'are fetched, checked, unpacked and merged',
      () =>
        withUpstream(async (upstream) => {
          const version = about.version ?? newestFirst(Object.keys((await loadExtension(dir)).pins))[0] ?? '';
          for (const arch of ARCHES) {
            const { images, payloads, standIns } = await upstream.build(dir, version, arch);
            for (const url of standIns) console.error(`fixture: ${basename(dir)} ${arch}: a file of this test's own stands in for ${url}`);
            expect(standIns.length).toBeGreaterThan(0);
            // Nothing but the pins tells it from what is published.
            expect(payloads.map(({ withheld }) => withheld)).toEqual([['made with the pins of a fixture']]);
            const files = payloads.flatMap(({ tree }) => tree.entries.filter(({ type }) => type !== 'dir').map(({ path }) => path));
            expect(files).toEqual(expect.arrayContaining(about.programs.map((path) => path.slice(1))));
            if (arch !== hostArch()) continue;
            await withHost({ release: channelHead('stable').number }, async (host) => {
              const [image] = images;
              if (image === undefined) throw new Error('the build made no image');
              await host.install(image.file, linkName(image.extension, 'portable'));
              expect(await host.merge()).toContain(`Using extensions '${image.extension}`);
              for (const path of about.programs) expect(await host.run([path]), path).toMatch(/ of upstream/);
              await host.run(['systemd-tmpfiles', '--create']);
              for (const path of about.paths ?? []) expect(await host.exists(path), path).toBe(true);
              await about.also?.(host);
            });
          }
        }),
      about,
    );
  });
}
