import { chmod, glob, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import {
  ARCHES,
  archWords,
  exec,
  openArchive,
  openStore,
  readToolPins,
  snapshotStamp,
  unpackPackage,
  type Arch,
} from '@flatcar/core/engine';
import * as openpgp from 'openpgp';
import type { UpstreamContext } from '../src/context.ts';
import { sha, type FakeInternet } from './fake-internet.ts';

export const DAY = 86_400_000;
/** Dates of the indexes, which must be of these days. */
export const [DATE, NEXT_DATE] = [new Date(Date.now() - 5 * DAY), new Date(Date.now() - 4 * DAY)];
export const [STAMP, NEXT_STAMP] = [snapshotStamp(DATE), snapshotStamp(NEXT_DATE)];
export const HOST = 'deb.example.org/debian';

/** Makes a package of some files. */
export async function makePackage(dir: string, files: Readonly<Record<string, string | Buffer>>): Promise<Buffer> {
  for (const [path, text] of Object.entries(files)) {
    const at = join(dir, path);
    await mkdir(path.endsWith('/') ? at : dirname(at), { recursive: true });
    if (path.endsWith('/')) continue;
    if (typeof text === 'string' && text.startsWith('-> ')) {
      await symlink(text.slice('-> '.length), at);
      continue;
    }
    await writeFile(at, text);
    await chmod(at, 0o755);
  }
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true }))
    if (entry.isDirectory()) await chmod(join(entry.parentPath, entry.name), 0o755);
  await exec('dpkg-deb', ['--root-owner-group', '--build', dir, `${dir}.deb`]);
  return readFile(`${dir}.deb`);
}

/** What an index is served with instead of what is right. */
export interface ServedIndex {
  readonly key?: openpgp.PrivateKey;
  readonly until?: string;
  readonly date?: string;
  readonly securityDate?: string;
  readonly tamper?: (text: string) => string;
  /** Paragraphs of the security suite. */
  readonly security?: (arch: Arch) => string[];
}

/** An archive of Debian with the suite `test`, signed by a key of its own. It has xz-utils with its libraries: real packages, since they are unpacked. */
export async function openFakeArchive(internet: FakeInternet) {
  const { privateKey: signing } = await openpgp.generateKey({ type: 'ecc', userIDs: [{ name: 'A Test Archive' }], format: 'object' });
  const keyring = signing.toPublic().armor();
  /** Paragraphs of the index, by architecture. */
  const index = new Map<Arch, string[]>();
  const pool = new Map<string, Buffer>();
  /** Paths of the real packages. */
  const paths = new Map<Arch, string[]>();
  const pins = await readToolPins();
  const real = openArchive(openStore());

  /** Adds a package. */
  function add(arch: Arch, name: string, version: string, path: string, bytes: Buffer, depends = '', source = name): void {
    pool.set(path, bytes);
    const entry = [
      `Package: ${name}`,
      `Version: ${version}`,
      `Filename: ${path}`,
      `Size: ${bytes.length}`,
      `SHA256: ${sha(bytes)}`,
      ...(depends === '' ? [] : [`Depends: ${depends}`]),
      ...(source === name ? [] : [`Source: ${source}`]),
    ];
    index.set(arch, [...(index.get(arch) ?? []), `${entry.join('\n')}\n`]);
  }

  /** Serves the archive with a signed index. */
  async function serve(about: ServedIndex = {}): Promise<void> {
    internet.served.clear();
    const lists = ARCHES.map((arch) => ({
      folder: `main/binary-${archWords(arch).debian}`,
      list: gzipSync((index.get(arch) ?? []).join('\n')),
    }));
    const sums = lists.map(({ folder, list }) => ` ${sha(list)} ${list.length} ${folder}/Packages.gz\n`).join('');
    const until = about.until === undefined ? '' : `Valid-Until: ${about.until}\n`;
    const text = `Origin: Test\nSuite: test\nCodename: test\nDate: ${about.date ?? DATE.toUTCString()}\n${until}SHA256:\n${sums}`;
    const signed = await openpgp.sign({ message: await openpgp.createCleartextMessage({ text }), signingKeys: about.key ?? signing });
    internet.served.set(`${HOST}/dists/test/InRelease`, about.tamper?.(signed) ?? signed);
    for (const { folder, list } of lists) internet.served.set(`${HOST}/dists/test/${folder}/by-hash/SHA256/${sha(list)}`, list);
    for (const [path, bytes] of pool) internet.served.set(`${HOST}/${path}`, bytes);
    const more = ARCHES.map((arch) => ({
      folder: `main/binary-${archWords(arch).debian}`,
      list: gzipSync((about.security?.(arch) ?? []).join('\n')),
    }));
    const base = `${HOST}-security/dists/test-security`;
    const body = `Codename: test-security\nDate: ${about.securityDate ?? (about.security === undefined ? DATE : NEXT_DATE).toUTCString()}\nSHA256:\n${more.map(({ folder, list }) => ` ${sha(list)} ${list.length} ${folder}/Packages.gz\n`).join('')}`;
    internet.served.set(
      `${base}/InRelease`,
      await openpgp.sign({ message: await openpgp.createCleartextMessage({ text: body }), signingKeys: signing }),
    );
    for (const { folder, list } of more) internet.served.set(`${base}/${folder}/by-hash/SHA256/${sha(list)}`, list);
  }

  /** A file of a pinned package of today's Debian. */
  async function fileOf(name: string, path: string): Promise<Buffer> {
    const pin = pins.packages['x86-64'][name];
    if (pin === undefined) throw new Error(`${name} is not pinned`);
    const { file } = await real.fetch({ name, ...pin }, { suite: pins.suite, snapshot: pins.snapshot, arch: 'x86-64' });
    const dir = join(internet.dir, `files-${name}`);
    await unpackPackage(file, dir);
    for await (const found of glob(path, { cwd: dir })) return readFile(join(dir, found));
    throw new Error(`${name} has no ${path}`);
  }

  /** A run that reads this archive. */
  function context(): UpstreamContext {
    const run = internet.context();
    run.cache.set('archive', Promise.resolve(openArchive(run.store, run.report, { mirror: `${internet.mirror}/${HOST}`, keyring })));
    return run;
  }

  // Nothing of this one is in an image, though a package that is needed depends on it.
  const unneeded = await makePackage(join(internet.dir, 'unneeded'), { 'DEBIAN/control': controlOf('unneeded') });
  const depends: Readonly<Record<string, string>> = {
    'xz-utils': 'libc6, liblzma5, unneeded',
    liblzma5: 'libc6',
    libc6: 'libgcc-s1',
    'libgcc-s1': 'libc6',
  };
  for (const arch of ARCHES) {
    for (const [name, needs] of Object.entries(depends)) {
      const pin = pins.packages[arch][name];
      if (pin === undefined) throw new Error(`${name} is not pinned`);
      const { file } = await real.fetch({ name, ...pin }, { suite: pins.suite, snapshot: pins.snapshot, arch });
      add(arch, name, pin.version, pin.path, await readFile(file), needs);
      paths.set(arch, [...(paths.get(arch) ?? []), pin.path]);
    }
    add(arch, 'unneeded', '1', 'pool/main/u/unneeded/unneeded_1_all.deb', unneeded);
  }
  return { index, pool, paths, add, serve, fileOf, context };
}

export type FakeArchive = Awaited<ReturnType<typeof openFakeArchive>>;

/** The control file of a package. */
export const controlOf = (name: string): string =>
  `Package: ${name}\nVersion: 1\nArchitecture: all\nMaintainer: a test\nDescription: a package\n`;
