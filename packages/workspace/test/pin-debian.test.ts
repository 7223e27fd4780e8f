import { chmod, glob, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import {
  ARCHES,
  archWords,
  debian,
  describePayload,
  exec,
  loadExtension,
  openArchive,
  openStore,
  packaged,
  readPins,
  readToolPins,
  snapshotStamp,
  unpackPackage,
  upstreamVersion,
  type Arch,
} from '@flatcar/core/engine';
import * as openpgp from 'openpgp';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { UpstreamContext } from '@flatcar/upstream/context';
import { applyBump, findBumps } from '@flatcar/upstream/update/bump';
import { checkPins } from '@flatcar/upstream/pin/check';
import { findOutdated } from '@flatcar/upstream/update/outdated';
import { planNew, type NewRequest } from '../src/new/plan.ts';
import { definitionText, testText, type Plan } from '../src/new/scaffold.ts';
import { listVersions } from '@flatcar/upstream/sources/versions';
import { pinVersion, type PinRequest, type PinResult } from '@flatcar/upstream/pin/pin';
import { extensionOf, openWorld, sha, type World } from '@flatcar/upstream/test/fake-internet';

const DAY = 86_400_000;
/** Dates of the indexes, which must be of these days. */
const [DATE, NEXT_DATE] = [new Date(Date.now() - 5 * DAY), new Date(Date.now() - 4 * DAY)];
const [STAMP, NEXT_STAMP] = [snapshotStamp(DATE), snapshotStamp(NEXT_DATE)];
const HOST = 'deb.example.org/debian';
const PROOF = 'Debian archive index, signed by the archive key';
let world: World;
let dir: string;
let signing: openpgp.PrivateKey;
let keyring: string;
/** Real packages of a pinned tool, and one that only stands in the list: paragraphs of the index, by architecture. */
const index = new Map<Arch, string[]>();
const pool = new Map<string, Buffer>();
const paths = new Map<Arch, string[]>();

/** Puts a package into the archive. */
function add(arch: Arch, name: string, version: string, path: string, bytes: Buffer, depends: string, source = name): void {
  pool.set(path, bytes);
  const entry = [`Package: ${name}`, `Version: ${version}`, `Filename: ${path}`, `Size: ${bytes.length}`, `SHA256: ${sha(bytes)}`, ...(depends === '' ? [] : [`Depends: ${depends}`]), ...(source === name ? [] : [`Source: ${source}`])]; // prettier-ignore
  index.set(arch, [...(index.get(arch) ?? []), `${entry.join('\n')}\n`]);
}

/** Serves the archive with a signed index; what is told changes it. */
async function serveArchive(
  about: {
    key?: openpgp.PrivateKey;
    until?: string;
    date?: string;
    securityDate?: string;
    tamper?: (text: string) => string;
    security?: (arch: Arch) => string[];
  } = {},
): Promise<void> {
  world.served.clear();
  const lists = ARCHES.map((arch) => ({
    folder: `main/binary-${archWords(arch).debian}`,
    list: gzipSync((index.get(arch) ?? []).join('\n')),
  }));
  const sums = lists.map(({ folder, list }) => ` ${sha(list)} ${list.length} ${folder}/Packages.gz\n`).join('');
  const until = about.until === undefined ? '' : `Valid-Until: ${about.until}\n`;
  const text = `Origin: Test\nSuite: test\nCodename: test\nDate: ${about.date ?? DATE.toUTCString()}\n${until}SHA256:\n${sums}`;
  const signed = await openpgp.sign({ message: await openpgp.createCleartextMessage({ text }), signingKeys: about.key ?? signing });
  world.served.set(`${HOST}/dists/test/InRelease`, about.tamper?.(signed) ?? signed);
  for (const { folder, list } of lists) world.served.set(`${HOST}/dists/test/${folder}/by-hash/SHA256/${sha(list)}`, list);
  for (const [path, bytes] of pool) world.served.set(`${HOST}/${path}`, bytes);
  const more = ARCHES.map((arch) => ({
    folder: `main/binary-${archWords(arch).debian}`,
    list: gzipSync((about.security?.(arch) ?? []).join('\n')),
  }));
  const base = `${HOST}-security/dists/test-security`;
  const body = `Codename: test-security\nDate: ${about.securityDate ?? (about.security === undefined ? DATE : NEXT_DATE).toUTCString()}\nSHA256:\n${more.map(({ folder, list }) => ` ${sha(list)} ${list.length} ${folder}/Packages.gz\n`).join('')}`;
  world.served.set(
    `${base}/InRelease`,
    await openpgp.sign({ message: await openpgp.createCleartextMessage({ text: body }), signingKeys: signing }),
  );
  for (const { folder, list } of more) world.served.set(`${base}/${folder}/by-hash/SHA256/${sha(list)}`, list);
}

/** Makes a package of some files. */
async function makePackage(dir: string, files: Readonly<Record<string, string | Buffer>>): Promise<Buffer> {
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

/** A package with what does not come into an image by itself: a service, a user, settings below /etc, plugins. */
const DAEMON: Readonly<Record<string, string>> = {
  'DEBIAN/control': 'Package: daemon\nVersion: 1.2-3\nArchitecture: all\nMaintainer: a test\nDescription: server of nothing\n It is long.\n',
  'DEBIAN/postinst': '#!/bin/sh\nsetcap cap_net_raw+ep /usr/sbin/daemond\n',
  'usr/sbin/daemond': '#!/bin/sh\nexec /usr/libexec/daemon/start /usr/share/daemon\n',
  'usr/bin/daemonctl': '#!/bin/sh\n',
  'usr/bin/daemon-start': '#!/bin/sh\nexec env PLUGINS=/usr/lib/x86_64-linux-gnu/daemon daemond\n',
  'usr/bin/daemon-report': '#!/usr/bin/perl -w\n',
  'usr/lib/systemd/system/daemon.service': '[Unit]\nDescription=D\n[Service]\nExecStart=/usr/sbin/daemond -f /opt/x/sbin/y\nExecReload=/bin/kill $MAINPID\nExecStop=/usr/share/daemon/stop\nExecStopPost=-/sbin/absent --quiet\n',
  'usr/lib/tmpfiles.d/daemon.conf': 'd /run/daemon\n',
  'usr/lib/sysusers.d/daemon.conf': 'u! _d - "A daemon" /var/lib/daemon\n',
  'usr/libexec/daemon/start': '#!/bin/sh\n',
  'usr/share/daemon/rules': 'x',
  'usr/share/daemon/same': '-> rules',
  'usr/share/daemon/modules': '-> ../../lib/daemon/absent',
  'usr/share/daemon/stop': '#!/bin/sh\n',
  'usr/share/daemon-examples/x': 'x',
  'etc/daemon/main.conf': 'x\n',
  'etc/default/daemon': 'OPTIONS=\n',
  'etc/init.d/daemon': '#!/bin/sh\n',
  'usr/share/doc/daemon/copyright': 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: ISC\n\nFiles: m4/*\nLicense: permissive\n\nFiles: debian/*\nLicense: GPL-2+\n',
}; // prettier-ignore

/** A package whose scripts make users, folders and configuration, in the ways that Debian's do. */
const CLOCK: Readonly<Record<string, string>> = {
  'DEBIAN/control': 'Package: clock\nVersion: 4.6-1\nArchitecture: all\nMaintainer: a test\nConflicts: time-daemon, other (<< 2)\nDescription: keeps time\n',
  'DEBIAN/postinst': [
    '#!/bin/sh', 'USER="_clock"', 'GROUP=clockers', 'if [ "$1" = configure ]; then',
    '  addgroup --system $GROUP >/dev/null',
    '  adduser --system \\', '    --ingroup ${GROUP} --quiet --gecos "Clock daemon" \\', '    --home /var/lib/clock --no-create-home $USER',
    '  useradd --system --comment helper --home-dir /nonexistent --shell /usr/sbin/nologin clock-helper || true',
    '  adduser --quiet _clock adm',
    '  ucf --three-way /usr/share/clock/clock.conf /etc/clock/clock.conf',
    '  [ -e /etc/clock/clock.keys ] || cp /usr/share/clock/clock.keys /etc/clock/clock.keys',
    '  mkdir -p -m 700 /var/lib/clock/db; chown $USER:$GROUP /var/lib/clock/db',
    '  cp -a /var/log/old /var/log/clock', 'fi', '',
  ].join('\n'),
  'usr/sbin/clockd': '#!/bin/sh\n',
  'usr/lib/systemd/system/clock.service': '[Unit]\nDescription=C\n[Service]\nUser=_clock\nEnvironmentFile=-/etc/default/clock\nLogsDirectory=clock\nExecStart=!/usr/sbin/clockd\n',
  'usr/share/clock/clock.conf': 'x\n',
  'usr/share/clock/clock.keys': 'x\n',
  'etc/clock/conf.d/README': 'x\n',
  'etc/default/clock': 'x\n',
  'etc/logrotate.d/clock': 'x\n',
  'etc/init.d/clock': 'x\n',
  'var/lib/clock/': '',
  'var/log/clock/': '',
  'var/spool/clock/': '',
  'usr/share/doc/clock/copyright': 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: ISC\n',
}; // prettier-ignore

/** The library of a pinned package, or its program. */
const libraryOf = (name: string, archive: ReturnType<typeof openArchive>): Promise<Buffer> => fileOf(name, 'usr/lib/*/*.so.*.*', archive);
const programOf = (name: string, archive: ReturnType<typeof openArchive>): Promise<Buffer> => fileOf(name, 'usr/bin/xz', archive);

async function fileOf(name: string, path: string, archive: ReturnType<typeof openArchive>): Promise<Buffer> {
  const pins = await readToolPins();
  const pin = pins.packages['x86-64'][name];
  if (pin === undefined) throw new Error(`${name} is not pinned`);
  const { file } = await archive.fetch({ name, ...pin }, { suite: pins.suite, snapshot: pins.snapshot, arch: 'x86-64' });
  const dir = join(world.dir, `files-${name}`);
  await unpackPackage(file, dir);
  for await (const found of glob(path, { cwd: dir })) return readFile(join(dir, found));
  throw new Error(`${name} has no ${path}`);
}

/** A run that asks the test's archive. */
function contextOfArchive(): UpstreamContext {
  const context = world.context();
  context.cache.set('archive', Promise.resolve(openArchive(context.store, context.report, { mirror: `${world.mirror}/${HOST}`, keyring })));
  return context;
}

function pin(more: Partial<PinRequest> = {}): Promise<PinResult> {
  const context = contextOfArchive();
  const origin = debian(['xz-utils'], { programs: ['xz'], suite: 'test' });
  const extension = extensionOf([], { components: (v) => [packaged('tool', v['version'] ?? '', origin)] });
  return pinVersion({ dir, extension, version: '5.8.1', licenses: { tool: '0BSD' }, ...more }, context);
}
const pinned = async (): Promise<ReturnType<typeof readPins>[string]> => {
  const found = readPins(await readFile(join(dir, 'pins.json'), 'utf8'), '')['5.8.1'];
  if (found === undefined) throw new Error('not pinned');
  return found;
};

beforeAll(async () => {
  world = await openWorld();
  dir = join(world.dir, 'tool');
  ({ privateKey: signing } = await openpgp.generateKey({ type: 'ecc', userIDs: [{ name: 'A Test Archive' }], format: 'object' }));
  keyring = signing.toPublic().armor();
  const pins = await readToolPins();
  const real = openArchive(openStore());
  // Nothing of this one is in the image, though a package that is needed depends on it.
  const empty = join(world.dir, 'empty');
  await mkdir(join(empty, 'DEBIAN'), { recursive: true });
  await chmod(join(empty, 'DEBIAN'), 0o755);
  await writeFile(
    join(empty, 'DEBIAN/control'),
    'Package: unneeded\nVersion: 1\nArchitecture: all\nMaintainer: a test\nDescription: nothing\n',
  );
  await exec('dpkg-deb', ['--root-owner-group', '--build', empty, join(world.dir, 'unneeded_1_all.deb')]);
  const unneeded = await readFile(join(world.dir, 'unneeded_1_all.deb'));
  const daemon = await makePackage(join(world.dir, 'daemon'), {
    ...DAEMON,
    'usr/lib/x86_64-linux-gnu/daemon/two.so': 'a plugin that needs nothing',
    'usr/lib/x86_64-linux-gnu/daemon/one.so': await libraryOf('liblzma5', real),
  });
  const clock = await makePackage(join(world.dir, 'clock'), CLOCK);
  const control = (name: string): string => `Package: ${name}\nVersion: 1\nArchitecture: all\nMaintainer: a test\nDescription: a package\n`;
  const doc = { [`usr/share/doc/x/copyright`]: DAEMON['usr/share/doc/daemon/copyright'] ?? '' };
  const meta = await makePackage(join(world.dir, 'meta'), { 'DEBIAN/control': control('meta'), ...doc });
  const common = await makePackage(join(world.dir, 'server-common'), {
    'DEBIAN/control': control('server-common'),
    'usr/bin/wrapped': '-> ../share/server-common/wrapper',
    'usr/share/server-common/wrapper': '#!/usr/bin/perl\n',
    'usr/bin/server-helper': '#!/bin/sh\n',
  });
  const server = await makePackage(join(world.dir, 'server-17'), {
    'DEBIAN/control': control('server-17'),
    'usr/lib/server/17/bin/wrapped': await programOf('xz-utils', real),
  });
  const web = await makePackage(join(world.dir, 'web'), { 'DEBIAN/control': control('web'), ...doc, 'usr/sbin/web': '#!/bin/sh\n' });
  // Its service and its configuration are in another package of the same source.
  const webCommon = await makePackage(join(world.dir, 'web-common'), {
    'DEBIAN/control': control('web-common'),
    'usr/lib/systemd/system/web.service': '[Unit]\nDescription=W\n[Service]\nExecStart=/usr/sbin/web\n',
    'etc/web/web.conf': '# user proxy;\nuser www-data;\nworkers auto;\n',
  });
  const lettered = await makePackage(join(world.dir, 'lettered'), {
    'DEBIAN/control': control('lettered'),
    'usr/bin/lettered': '#!/bin/sh\n',
  });
  const depends: Readonly<Record<string, string>> = {
    'xz-utils': 'libc6, liblzma5, unneeded',
    liblzma5: 'libc6',
    libc6: 'libgcc-s1',
    'libgcc-s1': 'libc6',
  };
  for (const arch of ARCHES) {
    for (const [name, needs] of Object.entries(depends)) {
      const package_ = pins.packages[arch][name];
      if (package_ === undefined) throw new Error(`${name} is not pinned`);
      const { file } = await real.fetch({ name, ...package_ }, { suite: pins.suite, snapshot: pins.snapshot, arch });
      add(arch, name, package_.version, package_.path, await readFile(file), needs);
      paths.set(arch, [...(paths.get(arch) ?? []), package_.path]);
    }
    add(arch, 'unneeded', '1', 'pool/main/u/unneeded/unneeded_1_all.deb', unneeded, '');
    add(arch, 'daemon', '1.2-3', 'pool/main/d/daemon/daemon_1.2-3_all.deb', daemon, 'unneeded');
    add(arch, 'meta', '17+278', 'pool/main/m/meta/meta_17+278_all.deb', meta, 'server-17');
    add(arch, 'server-common', '278', 'pool/main/s/server-common/server-common_278_all.deb', common, '');
    add(arch, 'server-17', '17.6-1', 'pool/main/s/server-17/server-17_17.6-1_all.deb', server, 'server-common, xz-utils');
    add(arch, 'web', '1.26.3-1', 'pool/main/w/web/web_1.26.3-1_all.deb', web, 'web-common');
    add(arch, 'web-common', '1.26.3-1', 'pool/main/w/web/web-common_1.26.3-1_all.deb', webCommon, '', 'web');
    add(arch, 'lettered', '3.5a-1', 'pool/main/l/lettered/lettered_3.5a-1_all.deb', lettered, '');
    add(arch, 'clock', '4.6-1', 'pool/main/c/clock/clock_4.6-1_all.deb', clock, '');
  }
});
afterAll(() => world.close());
beforeEach(async () => {
  world.events.length = 0;
  await rm(dir, { recursive: true, force: true });
});

test('packages are pinned with those that their programs need, for both architectures, by the signed index', async () => {
  await serveArchive();
  const { written, lines } = await pin();
  expect(written).toEqual([join(dir, 'pins.json')]);
  const wanted = ARCHES.flatMap((arch) => paths.get(arch) ?? []);
  expect(wanted).toHaveLength(8);
  expect(lines.map(({ locator }) => locator).toSorted()).toEqual(wanted.map((path) => `debian:${path}`).toSorted());
  const { bytes, snapshot } = await pinned();
  expect(bytes).toEqual(
    Object.fromEntries(
      wanted.map((path) => [`debian:${path}`, { sha256: sha(pool.get(path) ?? ''), size: pool.get(path)?.length, proof: PROOF }]),
    ),
  );
  expect(snapshot).toBe(STAMP);
  // The same again is the same, and writes nothing.
  expect((await pin()).written).toEqual([]);
});

test('a package that the definition names is pinned, whatever of it is in the image', async () => {
  await serveArchive();
  const origin = debian(['unneeded', 'xz-utils'], { programs: ['xz'], suite: 'test' });
  await pin({ extension: extensionOf([], { components: (v) => [packaged('tool', v['version'] ?? '', origin)] }), version: '2026.11.27' });
  const lock = readPins(await readFile(join(dir, 'pins.json'), 'utf8'), '')['2026.11.27'];
  expect(Object.keys(lock?.bytes ?? {})).toContain('debian:pool/main/u/unneeded/unneeded_1_all.deb');
});

test('an index that was changed, or that another key signed, pins nothing', async () => {
  const other = await openpgp.generateKey({ type: 'ecc', userIDs: [{ name: 'Another' }], format: 'object' });
  for (const about of [
    { tamper: (text: string): string => text.replace(DATE.toUTCString(), NEXT_DATE.toUTCString()) },
    { key: other.privateKey },
  ]) {
    await serveArchive(about);
    await expect(pin()).rejects.toThrow('the package index has no good signature');
    await expect(readFile(join(dir, 'pins.json'))).rejects.toThrow('ENOENT');
  }
});

test('a list of packages that is not the one of the signed index pins nothing', async () => {
  await serveArchive();
  const [url = '', list] = [...world.served].find(([key]) => key.includes('binary-arm64/by-hash')) ?? [];
  const changed = Buffer.from(list as Buffer);
  changed.writeUInt8(changed.readUInt8(20) ^ 1, 20);
  world.served.set(url, changed);
  await rm(join(world.dir, 'store', 'blobs'), { recursive: true, force: true });
  await expect(pin()).rejects.toThrow('wrong digest');
  await expect(readFile(join(dir, 'pins.json'))).rejects.toThrow('ENOENT');
});

test('an index that has expired, is too old, or is older than the one that was pinned by, pins nothing and raises nothing', async () => {
  await serveArchive({ date: NEXT_DATE.toUTCString() });
  await pin();
  const before = await readFile(join(dir, 'pins.json'), 'utf8');
  const until = new Date(Date.now() - DAY).toUTCString();
  const old = new Date(Date.now() - 400 * DAY).toUTCString();
  for (const [about, message] of [
    [{ until }, `the package index expired on ${until}`],
    [{ date: old }, `the package index is of ${old}, more than 365 days ago`],
    [{}, `the index of test is of ${STAMP}, older than the pinned packages (${NEXT_STAMP})`],
  ] as const) {
    await serveArchive(about);
    await expect(pin({ revision: true })).rejects.toThrow(message);
  }
  expect(await readFile(join(dir, 'pins.json'), 'utf8')).toBe(before);
  // The positive control.
  await serveArchive({ date: NEXT_DATE.toUTCString() });
  expect((await pin({ revision: true })).lines.map(({ change }) => change)).not.toContain('other');
});

test('packages that changed under a pinned version need --revision', async () => {
  await serveArchive();
  await pin();
  const [first = ''] = Object.keys((await pinned()).bytes);
  const lock = JSON.parse(await readFile(join(dir, 'pins.json'), 'utf8')) as Record<string, { bytes: Record<string, { sha256: string }> }>;
  const there = lock['5.8.1']?.bytes[first];
  if (there !== undefined) there.sha256 = sha('what the archive had before');
  await writeFile(join(dir, 'pins.json'), JSON.stringify(lock));
  const refused = pin();
  await expect(refused).rejects.toThrow('tool 5.8.1 is pinned with other packages');
  await expect(refused).rejects.toThrow(basename(first, '.deb'));
  expect((await pin({ revision: true })).lines.find(({ locator }) => locator === first)?.change).toBe('other');
  expect(await pinned()).toMatchObject({ revision: 1 });
});

/** The list of a security suite in which a package has another version, under the bytes that are there. */
function withSecurity(name: string, version: string): (arch: Arch) => string[] {
  return (arch) =>
    (index.get(arch) ?? [])
      .filter((entry) => entry.startsWith(`Package: ${name}\n`))
      .map((entry) => {
        const path = /^Filename: (.*)$/m.exec(entry)?.[1] ?? '';
        const to = `pool/updates/${path.replace(/^pool\//, '').replace(/_[^_]+_/, `_${version}_`)}`;
        world.served.set(`${HOST}-security/${to}`, pool.get(path) ?? '');
        return entry.replace(/^Version: .*$/m, `Version: ${version}`).replace(path, to);
      });
}

const core = pathToFileURL(join(import.meta.dirname, '../../core/src/engine.ts')).href;
const PLAN: Plan = {
  name: 'tool',
  summary: 'a tool',
  version: '5.8.1',
  license: '0BSD',
  keep: 'newest',
  programs: ['xz'],
  debian: { packages: ['xz-utils'], suite: 'test', programs: ['xz'] },
};

describe('a version that security updates raised', () => {
  const raised = async (): Promise<void> => serveArchive({ security: withSecurity('xz-utils', '5.9.0-1~deb13u1') });

  test('the version source lists what would be pinned', async () => {
    await raised();
    const source = { kind: 'debian', at: 'test/main/xz-utils', keep: 'newest' } as const;
    expect(await listVersions(source, contextOfArchive())).toEqual(['5.9.0']);
  });
  test('a version with letters is told as what it is', async () => {
    await serveArchive({ security: withSecurity('xz-utils', '5.9a-1') });
    const source = { kind: 'debian', at: 'test/main/xz-utils', keep: 'newest' } as const;
    await expect(listVersions(source, contextOfArchive())).rejects.toThrow(
      'test has xz-utils 5.9a, which is not a version of digits and dots',
    );
  });
  test('pin refuses it under the older version, says which it is, and writes nothing', async () => {
    await raised();
    await expect(pin()).rejects.toMatchObject({
      message: 'tool 5.8.1 is made of the package xz-utils 5.9.0-1~deb13u1, which is version 5.9.0',
      next: 'pin that version: flatcar-ext pin tool@5.9.0',
    });
    await expect(pin({ revision: true })).rejects.toThrow('which is version 5.9.0');
    await expect(readFile(join(dir, 'pins.json'))).rejects.toThrow('ENOENT');
    await pin({ version: '5.9.0' });
    expect(await readFile(join(dir, 'pins.json'), 'utf8')).toContain('pool/updates/');
  });
  test('new pins what it names, and bump goes there', async () => {
    await serveArchive();
    await pin();
    await writeFile(join(dir, 'extension.ts'), definitionText(PLAN).replace('@flatcar/core', core));
    await raised();
    const loaded = await loadExtension(dir);
    const { rows } = await findOutdated([loaded], contextOfArchive());
    expect(rows[0]).toMatchObject({ of: 'version', current: '5.8.1', newest: '5.9.0', outdated: true });
    const { bumps, keep } = await findBumps(loaded, contextOfArchive());
    expect(bumps.map(({ version }) => version)).toEqual(['5.9.0']);
    const [bump] = bumps;
    if (bump === undefined) throw new Error('no bump');
    await applyBump(dir, bump, { keep, keepOld: false }, contextOfArchive());
    expect(Object.keys(readPins(await readFile(join(dir, 'pins.json'), 'utf8'), ''))).toEqual(['5.9.0']);
    // The package that was pinned before cannot be taken for another version.
    await expect(pin()).rejects.toThrow('which is version 5.9.0');
  });
  test('a lock whose packages are another version is not built', async () => {
    await serveArchive();
    await pin();
    const pins = JSON.parse(await readFile(join(dir, 'pins.json'), 'utf8')) as Record<string, unknown>;
    await writeFile(join(dir, 'pins.json'), JSON.stringify({ '5.7.0': pins['5.8.1'] }));
    await writeFile(join(dir, 'extension.ts'), definitionText(PLAN).replace('@flatcar/core', core));
    const request = { version: '5.7.0', arch: 'x86-64', format: 'squashfs', profile: 'fast' } as const;
    await expect(describePayload(await loadExtension(dir), request, 'x86-64')).rejects.toMatchObject({
      message: expect.stringMatching(/^tool 5\.7\.0 is made of the package xz-utils 5\.8\.1-\S+, which is version 5\.8\.1$/),
      next: expect.stringContaining('flatcar-ext pin tool@5.8.1'),
    });
  });
});

test.each([
  ['1:2.17.6-0+deb13u1', '2.17.6'],
  ['5.4.9-1~deb13u1', '5.4.9'],
  ['1.9.3+dfsg-6+b2', '1.9.3'],
  ['1.9.3.ds1-2', '1.9.3'],
  ['20240203+deb13u1', '20240203'],
  ['1.2+b1', '1.2'],
  ['2.0+really1.9-1', '1.9'],
  ['10.0.13+ds-0+deb13u1', '10.0.13'],
])('%s is version %s of upstream', (version, upstream) => {
  expect(upstreamVersion(version)).toBe(upstream);
});

describe('packages that the archive has in newer versions', () => {
  const listed = new Map<Arch, string[]>();
  /** Another version of a package in the list; its bytes are those that are there. */
  const replace = (name: string, version: string): void => {
    for (const arch of ARCHES) {
      const entries = (index.get(arch) ?? []).map((entry) => {
        if (!entry.startsWith(`Package: ${name}\n`)) return entry;
        const path = /^Filename: (.*)$/m.exec(entry)?.[1] ?? '';
        const to = path.replace(/_[^_]+_/, `_${version}_`);
        pool.set(to, pool.get(path) ?? Buffer.of());
        return entry.replace(/^Version: .*$/m, `Version: ${version}`).replace(path, to);
      });
      index.set(arch, entries);
    }
  };
  beforeEach(async () => {
    for (const arch of ARCHES) listed.set(arch, index.get(arch) ?? []);
    await serveArchive();
    await pin();
    await writeFile(join(dir, 'extension.ts'), definitionText(PLAN).replace('@flatcar/core', core));
  });
  afterEach(() => {
    for (const arch of ARCHES) index.set(arch, listed.get(arch) ?? []);
  });

  test('nothing is outdated while the archive has what is pinned', async () => {
    const { rows, errors } = await findOutdated([await loadExtension(dir)], contextOfArchive());
    expect(errors).toEqual([]);
    expect(rows.map(({ of, outdated }) => [of, outdated])).toEqual([['version', false], ['packages', false]]); // prettier-ignore
    expect((await findBumps(await loadExtension(dir), contextOfArchive())).bumps).toEqual([]);
  });
  test('a library that was mended is a revision of the same version, and stands in the changelog', async () => {
    replace('liblzma5', '99.1-1+deb13u1');
    await serveArchive({ date: NEXT_DATE.toUTCString() });
    const { rows } = await findOutdated([await loadExtension(dir)], contextOfArchive());
    const [, row] = rows;
    expect(row).toMatchObject({ of: 'packages', lead: '5.8.1', current: STAMP, newest: NEXT_STAMP, outdated: true });
    expect(row?.packages).toEqual([{ name: 'liblzma5', from: expect.any(String), to: '99.1-1+deb13u1' }]);
    const { bumps, keep } = await findBumps(await loadExtension(dir), contextOfArchive());
    const [bump, ...more] = bumps;
    if (bump === undefined) throw new Error('no bump');
    expect(more).toEqual([]);
    const { changes, pinned: result } = await applyBump(dir, bump, { keep, keepOld: false }, contextOfArchive());
    expect(changes).toEqual([expect.stringMatching(/^liblzma5 \S+ → 99\.1-1\+deb13u1$/)]);
    expect(result.revision).toBe(1);
    expect(await pinned()).toMatchObject({ revision: 1, snapshot: NEXT_STAMP });
    expect(await readFile(join(dir, 'CHANGELOG.md'), 'utf8')).toMatch(/^# Changes of tool\n\n## 5\.8\.1-1 \(.*\)\n\n- liblzma5 /);
    expect((await findBumps(await loadExtension(dir), contextOfArchive())).bumps).toEqual([]);
    // Another one before this is released: the revision is not raised again, and the changelog has one entry with both.
    replace('libgcc-s1', '99.1-1');
    await serveArchive({ date: NEXT_DATE.toUTCString() });
    const again = await findBumps(await loadExtension(dir), contextOfArchive());
    const [second] = again.bumps;
    if (second === undefined) throw new Error('no bump');
    const options = { keep: again.keep, keepOld: false, revision: 1 };
    expect((await applyBump(dir, second, options, contextOfArchive())).pinned.revision).toBe(1);
    const text = await readFile(join(dir, 'CHANGELOG.md'), 'utf8');
    expect(text.match(/^## /gm)).toHaveLength(1);
    expect(text).toMatch(/^# Changes of tool\n\n## 5\.8\.1-1 \(.*\)\n\n- liblzma5 .*\n- libgcc-s1 .*\n$/);
  });
  test('indexes that have expired, or are older than the pins, are an error of outdated and bump, and no verdict of a check', async () => {
    const until = new Date(Date.now() - DAY).toUTCString();
    const old = new Date(DATE.getTime() - DAY).toUTCString();
    for (const [about, message] of [
      [{ until }, `the package index expired on ${until}`],
      [{ date: old, securityDate: old }, 'older than the pinned packages'],
    ] as const) {
      await serveArchive(about);
      const loaded = await loadExtension(dir);
      const { rows, errors } = await findOutdated([loaded], contextOfArchive());
      expect(JSON.stringify(errors)).toContain(message);
      expect(rows.some(({ of }) => of === 'packages')).toBe(false);
      await expect(findBumps(loaded, contextOfArchive())).rejects.toThrow(message);
    }
    await serveArchive({ until });
    const { extension } = await loadExtension(dir);
    const checked = await checkPins({ dir, extension, version: '5.8.1' }, contextOfArchive());
    expect(checked.map(({ state }) => state)).toEqual(checked.map(() => 'unreached'));
    await serveArchive();
    const again = await checkPins({ dir, extension, version: '5.8.1' }, contextOfArchive());
    expect(again.map(({ state }) => state)).toEqual(checked.map(() => 'same'));
  });
  test('an older archive, such as a stale mirror, is no reason', async () => {
    replace('liblzma5', '0.1-1');
    await serveArchive();
    const { rows } = await findOutdated([await loadExtension(dir)], contextOfArchive());
    expect(rows.at(-1)).toMatchObject({ of: 'packages', outdated: false, packages: [] });
  });
});

describe('a new extension out of packages', () => {
  const plan = (more: Partial<NewRequest> = {}): { plan: ReturnType<typeof planNew>; notes: string[] } => {
    const notes: string[] = [];
    const ask = {
      text: async (question: string, flag: string, proposed?: string): Promise<string> => proposed ?? Promise.reject(new Error(`${question} ${flag}`)),
      choose: () => Promise.reject(new Error('nothing to choose')),
      note: (text: string) => void notes.push(text),
    }; // prettier-ignore
    const request: NewRequest = {
      name: 'daemon',
      keep: 'newest',
      suite: 'test',
      known: false,
      debian: ['daemon'],
      version: '1.2',
      license: 'ISC',
      ...more,
    };
    return { plan: planNew(request, ask, contextOfArchive()), notes };
  };
  beforeEach(() => serveArchive());

  test('programs and summary are found, and what the packages have besides is told', async () => {
    const { plan: made, notes } = plan({ programs: ['daemonctl', 'daemond'] });
    expect(await made).toMatchObject({ programs: ['daemonctl', 'daemond'], summary: 'daemon, server of nothing' });
    expect(await made).not.toHaveProperty('unit');
    expect(notes).toContainEqual(expect.stringMatching(/have daemon\.service: --unit/));
  });
  test('folders that a chosen program looks into are part of the definition, and others are not', async () => {
    const { plan: made, notes } = plan({ programs: ['daemond'] });
    expect((await made).debian).toMatchObject({ data: ['usr/libexec/daemon/start', 'usr/share/daemon/**', '!usr/share/daemon/modules'] });
    expect(notes).toContainEqual("taken along: data: ['usr/libexec/daemon/start'] (1 files, 0.0 MiB), which usr/bin/daemond looks into");
    expect((await plan({ programs: ['daemonctl'] }).plan).debian).toMatchObject({ data: [], dlopen: [] });
    expect(definitionText(await made)).toContain("data: ['usr/libexec/daemon/start', 'usr/share/daemon/**', '!usr/share/daemon/modules']");
    expect(notes).toContainEqual("left out: usr/share/daemon/modules: is a link to '../../lib/daemon/absent', which no package has");
  });
  test('a plugin that needs a library of no dependency is left out, and told', async () => {
    const { plan: made, notes } = plan({ programs: ['daemon-start'] });
    const of = (await made).debian;
    expect(of?.dlopen).toEqual(['usr/lib/{triplet}/daemon/**', '!usr/lib/{triplet}/daemon/one.so']);
    expect(notes).toContainEqual(
      expect.stringMatching(/^left out: usr\/lib\/x86_64-linux-gnu\/daemon\/one\.so: needs libc\.so\.6 of a package/),
    );
  });
  test('a program that the named packages do not have is refused', async () => {
    await expect(plan({ programs: ['unneeded-tool'] }).plan).rejects.toMatchObject({
      message: 'neither the packages nor what they depend on have a program unneeded-tool',
      next: expect.stringContaining('daemonctl, daemond'),
    });
  });
  test('a package of dependencies only is refused with the one that has the program', async () => {
    await expect(plan({ debian: ['meta'], version: undefined, programs: ['wrapped'] }).plan).rejects.toMatchObject({
      message: 'the package meta contains nothing: it depends on others, and wrapped 17.6 is in server-17',
      next: 'name that package first: --debian server-17',
    });
  });
  test('a program that a script wraps which nothing can run is taken from where it is; programs may be of dependencies', async () => {
    const { plan: made } = plan({ debian: ['server-17'], version: undefined, programs: ['wrapped', 'server-helper'] });
    const { version, programs, debian: of } = await made;
    expect(version).toBe('17.6');
    expect(programs).toEqual(['wrapped', 'server-helper']);
    expect(of?.programs).toEqual(['usr/lib/server/17/bin/wrapped', 'server-helper']);
  });
  test('packages whose version no image can have make an extension of dates, which says so', async () => {
    const { plan: made, notes } = plan({ debian: ['lettered'], version: undefined, programs: ['lettered'] });
    const of = await made;
    expect(of.version).toMatch(/^20\d\d\.\d\d\.\d\d$/);
    expect(of.debian).toMatchObject({ dated: true, versions: { lettered: '3.5a' } });
    expect(definitionText(of)).toContain("versions: { kind: 'date', at: '', keep: 'newest' }");
    expect(notes).toContainEqual(expect.stringContaining('lettered is version 3.5a'));
    expect(testText(of, [{ run: ['lettered', '-V'], says: 'lettered ', numbered: true }])).toContain(
      String.raw`{ run: ['lettered', '-V'], says: /lettered \d/ }`,
    );
    // A date that somebody asks for does the same, of a package with a plain version too.
    expect(await plan({ version: '2026.11.27', programs: ['daemond'] }).plan).toMatchObject({
      version: '2026.11.27',
      debian: { dated: true },
    });
  });
  test('a script that nothing can run is refused; what file capabilities are lost is told', async () => {
    await expect(plan({ programs: ['daemonctl', 'daemon-report'] }).plan).rejects.toMatchObject({
      message: "'daemon-report' is a script for /usr/bin/perl, which is neither in the image nor on Flatcar",
    });
    const { plan: made, notes } = plan({ programs: ['daemond'] });
    await made;
    expect(notes).toContainEqual(expect.stringContaining('daemond the file capabilities cap_net_raw+ep'));
  });
  test("a package's own service comes with its user, a unit that makes it first, its folders and its configuration", async () => {
    const { plan: made, notes } = plan({ programs: ['daemonctl'], unit: { exec: 'daemon.service', condition: '/etc/daemon/main.conf' } });
    const { unit, files, programs, machine, debian: of } = await made;
    expect(programs).toEqual(['daemonctl', 'daemond']); // the unit runs it
    expect(of?.data).toContain('usr/share/daemon/**'); // and ExecStop is in there
    expect(machine).toEqual({ active: ['daemon.service'] });
    expect(unit).toEqual({
      name: 'daemon.service',
      text: '[Unit]\nRequires=daemon-user.service\nAfter=daemon-user.service\nConditionPathExists=/etc/daemon/main.conf\nDescription=D\n[Service]\nExecStart=/usr/bin/daemond -f /opt/x/sbin/y\nExecReload=/usr/bin/kill $MAINPID\nExecStop=/usr/share/daemon/stop\n',
    });
    const texts = new Map(files?.map(({ path, text }) => [path, text]));
    expect([...texts.keys()].toSorted()).toEqual([
      'usr/lib/systemd/system/daemon-user.service',
      'usr/lib/sysusers.d/daemon.conf',
      'usr/lib/tmpfiles.d/daemon.conf',
      'usr/share/daemon/etc/daemon/main.conf',
    ]);
    expect(texts.get('usr/lib/sysusers.d/daemon.conf')).toBe('u _d - "A daemon" /var/lib/daemon\n'); // `u!` is of systemd 257
    expect(texts.get('usr/lib/tmpfiles.d/daemon.conf')).toBe(
      'd /run/daemon\nd /var/lib/daemon 0755 _d _d -\nC /etc/daemon/main.conf - - - - /usr/share/daemon/etc/daemon/main.conf\n',
    );
    expect(texts.get('usr/lib/systemd/system/daemon-user.service')).toMatch(
      /^Type=oneshot\nRemainAfterExit=yes\nExecStart=\/usr\/bin\/systemd-sysusers daemon\.conf\nExecStart=\/usr\/bin\/systemd-tmpfiles --create daemon\.conf$/m,
    );
    expect(notes).toContainEqual('copied to /etc on the first boot, where there is none: /etc/daemon/main.conf');
    expect(notes).toContainEqual('left out of daemon.service: ExecStopPost=-/usr/bin/absent --quiet, which nothing here can run');
  });
  test('what maintainer scripts make is made by the image: users, groups, folders, configuration, and a conflict with the host', async () => {
    const { plan: made } = plan({ name: 'clock', debian: ['clock'], version: '4.6', unit: { exec: 'clock.service' } });
    const { unit, files, debian: of, license } = await made;
    expect(license).toBe('ISC');
    const texts = new Map(files?.map(({ path, text }) => [path, text]));
    expect(texts.get('usr/lib/sysusers.d/clock.conf')?.split('\n').slice(1)).toEqual([
      'g clockers -',
      'u _clock -:clockers "Clock daemon" /var/lib/clock',
      'u clock-helper - "helper" -',
      'm _clock adm',
      '',
    ]);
    expect(texts.get('usr/lib/tmpfiles.d/clock.conf')?.split('\n')).toEqual([
      'd /var/lib/clock 0755 _clock clockers -',
      'd /var/lib/clock/db 0700 _clock clockers -',
      'd /var/spool/clock 0755 _clock clockers -',
      'C /etc/clock/clock.conf - - - - /usr/share/clock/clock.conf',
      'C /etc/clock/clock.keys 0640 root clockers - /usr/share/clock/clock.keys',
      'C /etc/clock/conf.d/README - - - - /usr/share/clock/etc/clock/conf.d/README',
      'C /etc/default/clock - - - - /usr/share/clock/etc/default/clock',
      '',
    ]);
    expect(of?.data).toEqual(['usr/share/clock/clock.conf', 'usr/share/clock/clock.keys']);
    expect(unit?.text).toMatch(
      /^\[Unit\]\nConflicts=systemd-timesyncd\.service\nAfter=systemd-timesyncd\.service\nRequires=clock-user\.service\nAfter=clock-user\.service\n/,
    );
    expect(testText(await made, [])).toContain("machine: { active: ['clock.service'], runsAs: { 'clock.service': '_clock' } }");
  });
  test('users that every Debian has are made where a configuration runs as one of them', async () => {
    const { files, unit } = await plan({
      debian: ['web'],
      version: '1.26.3',
      programs: ['web'],
      name: 'web',
      unit: { exec: 'web.service' },
    }).plan;
    const texts = new Map(files?.map(({ path, text }) => [path, text]));
    expect(texts.get('usr/lib/sysusers.d/web.conf')).toBe(
      '# Every Debian has it, and no Flatcar.\nu www-data - "A user of Debian" /var/www\n',
    );
    expect(unit?.text).toContain('Requires=web-user.service\n');
    expect([...texts.keys()]).toContain('usr/lib/systemd/system/web-user.service');
  });
  test('a service that is not there is told with those that are', async () => {
    await expect(plan({ unit: { exec: 'other.service' } }).plan).rejects.toThrow('the packages have no other.service');
  });
  test('a licence that is not clear is told in the words of the copyright file', async () => {
    const extension = extensionOf([], { components: (v) => [packaged('tool', v['version'] ?? '', debian(['daemon'], { programs: ['daemond'], suite: 'test' }))] }); // prettier-ignore
    const pinning = pinVersion({ dir, extension, version: '1.2' }, contextOfArchive());
    await expect(pinning).rejects.toThrow(
      'the licence of tool is not known: usr/share/doc/daemon/copyright of the package names ISC, permissive,',
    );
  });
});
