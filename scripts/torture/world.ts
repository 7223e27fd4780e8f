import { createHash } from 'node:crypto';
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { chmod, cp, link, lstat, mkdir, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';
import { cacheRoot, openStore, openTools } from '@flatcar/core/engine';
import { expectSuccess } from './run.ts';

const repository = resolve(import.meta.dirname, '../..');
const run = promisify(execFile);

/** Versions of the demonstration that upstream has; the first two are pinned, and what is published begins with the first. */
export const VERSIONS = ['1.0.0', '1.0.1', '1.0.2'] as const;
/** Both formats, and a release that has left the catalogue of the tests, so that something can be retired. */
export const TARGETS = 'portable,4593.2.5,beta';
/** Image tools: fetched once, before anything is killed. */
const TOOLS = ['mksquashfs', 'unsquashfs', 'mkfs.erofs', 'fsck.erofs', 'systemd-repart'];

/** All that the commands work on, made once; rounds get copies. */
export interface World {
  readonly dir: string;
  readonly checkout: string;
  readonly store: string;
  readonly keys: string;
  /** Folders of images, by version. */
  readonly images: Readonly<Record<string, string>>;
  /** A tree that has version 1.0.0, and one that has 1.0.0 and 1.0.1. */
  readonly trees: { readonly first: string; readonly both: string; readonly retired: string };
  readonly mirror: string;
  /** A set of keys whose rotation has begun. */
  readonly rotated: string;
  /** Gives a new store the image tools. */
  shareStore(to: string): Promise<void>;
  /** Environment of every command: its upstream is the server of this process. */
  env(place: { store: string; temp: string }): NodeJS.ProcessEnv;
  close(): Promise<void>;
}

/** A static program for one architecture (elf(5): a header and nothing that runs), with as many bytes as take a moment to pack. */
function program(arch: string, version: string): Buffer {
  const header = Buffer.alloc(64);
  header.write('\u007FELF', 0, 'latin1');
  header.set([2, 1, 1], 4);
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(arch === 'arm64' ? 183 : 62, 18);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(64, 58);
  const blocks = Array.from({ length: 40_000 }, (_, index) => createHash('sha256').update(`${arch} ${version} ${index}`).digest());
  return Buffer.concat([header, ...blocks]);
}

/** Serves `/dl.example.org/v1.0.0/demo-amd64` in pieces, so that a kill can meet a download. */
async function startUpstream(): Promise<{ url: string; close: () => void }> {
  const files = new Map<string, Buffer>(
    VERSIONS.flatMap((version) =>
      ['amd64', 'arm64'].map((arch) => [`/dl.example.org/v${version}/demo-${arch}`, program(arch, version)] as const),
    ),
  );
  const server = createServer((request, response) => {
    const body = files.get(request.url ?? '');
    if (body === undefined) return void response.writeHead(404).end();
    response.writeHead(200, { 'content-length': body.length });
    let at = 0;
    const send = (): void => {
      if (response.destroyed) return;
      const piece = body.subarray(at, (at += body.length / 8 + 1));
      if (at >= body.length) return void response.end(piece);
      response.write(piece);
      setTimeout(send, 5);
    };
    send();
  });
  await new Promise<void>((ready) => void server.listen(0, '127.0.0.1', ready));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Copies a tree by hard links: for what nobody writes into. */
async function linkTree(from: string, to: string): Promise<void> {
  const status = await lstat(from);
  if (status.isDirectory()) {
    await mkdir(to, { recursive: true });
    await chmod(to, status.mode); // the store compares modes
    for (const name of await readdir(from)) await linkTree(join(from, name), join(to, name));
  } else if (status.isSymbolicLink()) await symlink(await readlink(from), to);
  else
    await link(from, to).catch(
      () => cp(from, to, { preserveTimestamps: true }), // another file system
    );
}

/** Copies a folder as it is, links and modes included. */
export async function copyTree(from: string, to: string): Promise<void> {
  await cp(from, to, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true, mode: constants.COPYFILE_FICLONE });
}

/** What the store needs to have the image tools, as paths below it; they are fetched into the user's store where they are missing. */
async function findTools(): Promise<string[]> {
  const store = openStore();
  const tools = openTools(store);
  const found = new Set<string>();
  for (const tool of TOOLS) {
    for (const { sha256 } of await tools.record(tool)) found.add(`blobs/${sha256.slice(0, 2)}/${sha256}`);
    const { command } = await tools.command(tool);
    const result = /^results\/tools\/[0-9a-f]+/.exec(relative(store.root, command))?.[0] ?? '';
    found.add(result).add(`${result}.list`);
  }
  return [...found];
}

/** Gives a new store the image tools, and nothing else. */
async function shareTools(paths: readonly string[], to: string): Promise<void> {
  for (const path of paths) {
    await mkdir(dirname(join(to, path)), { recursive: true });
    await linkTree(join(cacheRoot(), path), join(to, path));
  }
}

/** A copy of the checkout as it is, with one small extension in it; what is installed is shared by links. */
async function makeCheckout(to: string): Promise<void> {
  await mkdir(join(to, 'node_modules'), { recursive: true });
  const listed = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: repository,
    maxBuffer: 64 << 20,
  });
  const wanted = (path: string): boolean =>
    path !== '' && !/^docs\/|^packages\/[^/]+\/test\/|^packages\/agent\//.test(path) && !/^extensions\/(?!extension-stager\/)/.test(path);
  for (const path of listed.stdout.split('\0').filter(wanted)) {
    await mkdir(join(to, path, '..'), { recursive: true });
    await cp(join(repository, path), join(to, path), { verbatimSymlinks: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error; // removed, and not committed yet
    });
  }
  for (const name of await readdir(join(repository, 'node_modules')))
    if (name === '@flatcar') await copyTree(join(repository, 'node_modules', name), join(to, 'node_modules', name)); // relative links to packages
    else if (!name.startsWith('.') || name === '.bin')
      await symlink(join(repository, 'node_modules', name), join(to, 'node_modules', name));
}

/** Commits what is in a checkout: a build of the profile `release` names the commit. */
export async function commit(checkout: string, message: string): Promise<void> {
  const person = ['-c', 'user.name=torture', '-c', 'user.email=torture@example.org', '-c', 'commit.gpgsign=false', '-c', 'gc.auto=0'];
  await run('git', ['add', '--all'], { cwd: checkout });
  await run('git', [...person, 'commit', '--quiet', '--allow-empty', '--message', message], { cwd: checkout });
}

/** The command line that runs flatcar-ext of a checkout. */
export const flatcarExt = (checkout: string, ...args: readonly string[]): readonly string[] => [
  process.execPath,
  join(checkout, 'packages/cli/src/main.ts'),
  ...args,
];

/** Options of `new` for the demonstration. */
export const NEW =
  '--url https://dl.example.org/v{version}/demo-{arch} --checksum none --program demo --license MIT --summary demonstration --yes --no-build'.split(
    ' ',
  );

/** The catalogue of a day on which the newest stable release is another one, so that images leave. */
export async function laterCatalogue({ dir, env }: Pick<World, 'dir' | 'env'>): Promise<NodeJS.ProcessEnv> {
  const file = join(dir, 'later.json');
  const text = await readFile(env({ store: '', temp: '' })['FLATCAR_EXT_RELEASES'] ?? '', 'utf8');
  const releases = (JSON.parse(text) as { number: string }[])
    .map((one) => (one.number === '4593.2.5' ? { ...one, number: '4593.2.9' } : one))
    .filter(({ number }) => !number.startsWith('4593.2.') || number === '4593.2.9');
  await writeFile(file, JSON.stringify(releases));
  return { FLATCAR_EXT_RELEASES: file };
}

/** The environment of commands, whose upstream is `mirror`. */
function environmentIn(dir: string, mirror: string, place: { store: string; temp: string }): NodeJS.ProcessEnv {
  const plain = Object.entries(process.env).filter(([key]) => !/^(?:FLATCAR_EXT_|GITHUB_|GH_|RUNNER_|CI$|INIT_CWD$)/.test(key));
  return {
    ...Object.fromEntries(plain),
    FLATCAR_EXT_CACHE: place.store,
    TMPDIR: place.temp,
    NODE_COMPILE_CACHE: join(dir, 'compiled'), // in the folder for temporary files otherwise
    FLATCAR_EXT_MIRROR: mirror,
    FLATCAR_EXT_RELEASES: join(repository, 'packages/testing/fixtures/releases.json'),
    npm_config_offline: 'true',
  };
}

/** Runs flatcar-ext in the checkout. */
type FlatcarExt = (...args: readonly string[]) => Promise<unknown>;

/** The demonstration in the checkout, with two versions pinned, and the images of both; returns their folders by version. */
async function buildImages(dir: string, checkout: string, keys: string, flatcar: FlatcarExt): Promise<Record<string, string>> {
  await flatcar('new', 'demo', ...NEW, '--version', VERSIONS[0]);
  await flatcar('pin', `demo@${VERSIONS[1]}`);
  await commit(checkout, 'demo');
  const images: Record<string, string> = {};
  for (const version of VERSIONS.slice(0, 2)) {
    images[version] = join(dir, 'images', version);
    const what = [`demo@${version}`, '--release', TARGETS, '--profile', 'publish', '--origin', 'upstream'];
    await flatcar('build', ...what, '--keys', keys, '--out', images[version]);
  }
  return images;
}

/** The trees, of which none is retired yet, and a mirror of the first. */
async function publishTrees(
  { dir, images, keys }: Pick<World, 'dir' | 'images' | 'keys'>,
  flatcar: FlatcarExt,
): Promise<Pick<World, 'trees' | 'mirror'>> {
  const trees = { first: join(dir, 'tree-1'), both: join(dir, 'tree-2'), retired: join(dir, 'tree-3') };
  const publish = (version: string, to: string): Promise<unknown> =>
    flatcar('publish', images[version] ?? '', '--tree', to, '--keys', keys, '--base-url', 'https://extensions.example.org');
  await publish(VERSIONS[0], trees.first);
  await copyTree(trees.first, trees.both);
  await publish(VERSIONS[1], trees.both);
  await copyTree(trees.both, trees.retired);
  const mirror = join(dir, 'mirror');
  await flatcar('mirror', '--to', mirror, '--tree', trees.first, '--keys', keys, '--base-url', 'https://mirror.example.org');
  return { trees, mirror };
}

/** Makes the world below a folder that is empty. */
export async function makeWorld(dir: string, say: (text: string) => void): Promise<World> {
  const upstream = await startUpstream();
  const [checkout, store, keys, temp, rotated] = [
    join(dir, 'checkout'),
    join(dir, 'store'),
    join(dir, 'keys'),
    join(dir, 'temp'),
    join(dir, 'keys-rotated'),
  ];
  await mkdir(temp, { recursive: true });
  const env: World['env'] = (place) => environmentIn(dir, upstream.url, place);
  say('copying the checkout and the tools');
  await makeCheckout(checkout);
  await run('git', ['init', '--quiet'], { cwd: checkout });
  await commit(checkout, 'copy');
  const tools = await findTools();
  await shareTools(tools, store);
  const runIn =
    (more: NodeJS.ProcessEnv): FlatcarExt =>
    (...args) =>
      expectSuccess(flatcarExt(checkout, ...args), { env: { ...env({ store, temp }), ...more }, cwd: checkout });
  const flatcar = runIn({});
  await flatcar('keys', 'init', keys);
  say('building and publishing what rounds begin with');
  const images = await buildImages(dir, checkout, keys, flatcar);
  const { trees, mirror } = await publishTrees({ dir, images, keys }, flatcar);
  await copyTree(keys, rotated);
  await flatcar('keys', 'rotate', rotated);
  await runIn(await laterCatalogue({ dir, env }))('retire', '--tree', trees.retired, '--keys', keys);
  await rm(temp, { recursive: true });
  return {
    dir,
    checkout,
    store,
    keys,
    images,
    trees,
    mirror,
    rotated,
    env,
    shareStore: (to: string) => shareTools(tools, to),
    close: async () => {
      upstream.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
