import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  buildExtension,
  channelHead,
  componentsOf,
  exec,
  FIRST_DOWNLOAD,
  loadExtension,
  locatorOf,
  openStore,
  openTools,
  type Arch,
  type BuildResult,
  type Component,
  type Pins,
  type Store,
} from '@flatcar/core/engine';
import { testFolder } from '../folders.ts';
import type { Layouts } from '../spec.ts';

const COMPRESS: Readonly<Record<string, readonly [string, readonly string[]]>> = {
  bz2: ['bzip2', []],
  xz: ['xz', []],
  gz: ['gzip', ['-n']],
  tgz: ['gzip', ['-n']],
  zst: ['zstd', ['--rm']],
  zstd: ['zstd', ['--rm']],
};

/** A program in place of an upstream one: it prints its name and the URL that it was served for. */
const program = (name: string, url: string): string => `#!/bin/sh\necho ${name} of upstream, ${url} "$@"\n`;

async function layoutsOf(dir: string): Promise<Layouts> {
  const file = join(testFolder(dir), 'upstream-layout.ts');
  if (!existsSync(file)) return [];
  return ((await import(pathToFileURL(file).href)) as { default: Layouts }).default;
}

/** Writes the members of an archive (`a -> b` is a link) into a folder. */
async function writeMembers(tree: string, members: readonly string[], url: string): Promise<void> {
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
}

/** Writes a file as upstream publishes it: an archive if its name has the suffix of one, otherwise a program. */
async function writeUpstreamFile(file: string, url: string, components: readonly Component[], layouts: Layouts): Promise<void> {
  const name = basename(file);
  const [, suffix] = /\.(?:tar\.)?(gz|tgz|bz2|xz|zstd?)$/.exec(name) ?? [];
  await mkdir(dirname(file), { recursive: true });
  if (suffix === undefined) return writeFile(file, program(components[0]?.name ?? name, url));
  const known = layouts.find(([pattern]) => pattern.test(name));
  const members = known?.[1] ?? components.flatMap(({ install }) => install.map(({ from }) => from.replaceAll('*', 'any')));
  const tree = `${file}.d`;
  await writeMembers(tree, members, url);
  const names = members.map((member) => member.split(' -> ')[0] ?? '');
  await exec('tar', ['--sort=name', '--owner=0', '--group=0', '--mtime=@1', '-cf', `${file}.tar`, '-C', tree, ...names]);
  const [command = '', args = []] = COMPRESS[suffix] ?? [];
  await exec(command, [...args, `${file}.tar`]);
  await rename(`${file}.tar.${suffix === 'tgz' ? 'gz' : suffix === 'zstd' ? 'zst' : suffix}`, file);
}

/** One server in place of every upstream host, with files whose names and layouts are those in an extension's pins; and builds from it. */
export interface Upstream {
  /** Builds from the served files only, with pins that have their digests. `standIns` are the URLs that a served file replaces. */
  build(dir: string, version: string, arch: Arch): Promise<BuildResult & { readonly standIns: readonly string[] }>;
}

/** Files below a folder by HTTP, on a port of this machine. */
async function serveFolder(root: string): Promise<{ readonly url: string; close(): void }> {
  const server = createServer((request, response) => {
    createReadStream(join(root, decodeURIComponent(request.url ?? '')))
      .on('error', () => response.writeHead(404).end())
      .pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.close() };
}

/** The files that upstream would serve, below a folder; each is written when it is first needed. */
class UpstreamFiles {
  readonly #root: string;
  readonly #digests = new Map<string, string>();

  constructor(root: string) {
    this.#root = root;
  }

  /** Writes a file that several components may take something from; returns its sha256 in hex. */
  async write(url: string, components: readonly Component[], layouts: Layouts): Promise<string> {
    const earlier = this.#digests.get(url);
    if (earlier !== undefined) return earlier;
    const file = join(this.#root, decodeURIComponent(url.slice('https:/'.length)));
    await writeUpstreamFile(file, url, components, layouts);
    const sha256 = createHash('sha256')
      .update(await readFile(file))
      .digest('hex');
    this.#digests.set(url, sha256);
    return sha256;
  }

  /** Pins with everything that the locks of shared components have, but the digests of the files that are served. */
  async pins(dir: string, version: string, arch: Arch): Promise<{ readonly pins: object; readonly standIns: readonly string[] }> {
    const layouts = await layoutsOf(dir);
    const { pin, components } = await componentsOf(await loadExtension(dir), version);
    const bytes: Record<string, Pins[string]['bytes'][string]> = {};
    const licenses: Record<string, string> = {};
    const standIns = new Set<string>();
    for (const { component, pin: own } of components) {
      Object.assign(licenses, own.licenses);
      for (const [locator, pinned] of Object.entries(own.bytes)) bytes[locator] ??= pinned;
      for (const origin of component.origins) {
        const locator = locatorOf(origin, component, arch);
        if (origin.kind !== 'upstream' || locator === undefined || own.bytes[locator] === undefined) continue;
        const takers = components
          .map((one) => one.component)
          .filter((one) => one.origins.some((its) => locatorOf(its, one, arch) === locator));
        bytes[locator] = { sha256: await this.write(locator, takers, layouts), proof: FIRST_DOWNLOAD };
        standIns.add(locator);
      }
    }
    return { pins: { [version]: { ...pin, licenses, bytes } }, standIns: [...standIns] };
  }
}

/** Provides such an upstream, and closes it afterwards. */
export async function withUpstream(use: (upstream: Upstream, store: Store) => Promise<void>): Promise<void> {
  const store = openStore();
  await store.withTemp(async (temp) => {
    const root = join(temp, 'hosts');
    const files = new UpstreamFiles(root);
    const server = await serveFolder(root);
    const build: Upstream['build'] = async (dir, version, arch) => {
      const { pins, standIns } = await files.pins(dir, version, arch);
      const file = join(temp, `${basename(dir)}-${version}-${arch}.json`);
      await writeFile(file, JSON.stringify(pins));
      const loaded = await loadExtension(dir, file);
      const built = await buildExtension(loaded, {
        version,
        arch,
        targets: [loaded.extension.releaseBound ? channelHead('stable') : 'portable'],
        profile: 'fast',
        origin: 'upstream',
        out: join(temp, 'out', basename(dir), version),
        store,
        tools: openTools(store),
        report: () => undefined,
        mirror: server.url,
      });
      return { ...built, standIns };
    };
    try {
      await use({ build }, store);
    } finally {
      server.close();
      await rm(root, { recursive: true, force: true });
    }
  });
}
