import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as openpgp from 'openpgp';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { openArchive } from '../src/debian/archive.ts';
import { debianMirror, DEFAULT_MIRROR, mirrorOfHost, parseSources, snapshotArchive, snapshotStamp } from '../src/debian/mirror.ts';
import type { DebianPackage } from '../src/debian/packages.ts';
import { UserError } from '../src/util/errors.ts';
import { UnreachableError } from '../src/http/errors.ts';
import { openStore, type Store } from '../src/store/store.ts';
import type { Event } from '../src/util/events.ts';

const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');

let dir: string;
let store: Store;
let events: Event[];
const notices = (): string[] => events.flatMap((event) => (event.type === 'notice' ? [event.text] : []));

/** What the server has, by path, and what it was asked for. */
const served = new Map<string, string | Buffer | number>();
let asked: string[] = [];
let server: Server;
let base: string;
let signing: openpgp.PrivateKey;
let keyring: string;

async function newKey(): Promise<openpgp.PrivateKey> {
  const { privateKey } = await openpgp.generateKey({ type: 'ecc', userIDs: [{ name: 'A Test Archive' }], format: 'object' });
  return privateKey;
}

beforeAll(async () => {
  signing = await newKey();
  keyring = signing.toPublic().armor();
  server = createServer((request, response) => {
    const path = request.url ?? '';
    asked.push(path);
    const answer = served.get(path) ?? 404;
    response.writeHead(typeof answer === 'number' ? answer : 200);
    response.end(typeof answer === 'number' ? '' : answer);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'debian-test-'));
  store = openStore(join(dir, 'store'));
  served.clear();
  asked = [];
  events = [];
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true, force: true });
});

const PINNED = 'the package as it was pinned';
const CURRENT = 'the package as it is now';
const pin: DebianPackage = {
  name: 'tool',
  version: '1.0-1',
  path: 'pool/main/t/tool/tool_1.0-1_amd64.deb',
  sha256: sha256(PINNED),
  size: PINNED.length,
};
const DAY = 86_400_000;
const utc = (days: number): string => new Date(Date.now() + days * DAY).toUTCString();
/** Dates of the indexes, which must be of these days, and when the pins were made. */
const [PIN_DATE, DATE, SECURITY_DATE] = [utc(-6), utc(-5), utc(-4)];
const STAMP = snapshotStamp(new Date(PIN_DATE));
const current = 'pool/main/t/tool/tool_1.0-2_amd64.deb';
const at = { suite: 'test', snapshot: STAMP, arch: 'x86-64' } as const;

const open = (): ReturnType<typeof openArchive> =>
  openArchive(store, (event) => events.push(event), { mirror: `${base}/debian/`, snapshot: `${base}/snapshot`, keyring });

/** Serves a signed index that lists the current version of the package, and the package. */
async function serveSuite(
  about: {
    key?: openpgp.PrivateKey;
    suite?: string;
    date?: string;
    until?: string;
    signedAt?: Date;
    change?: (text: string) => string;
  } = {},
): Promise<void> {
  const packages = `Package: tool\nVersion: 1.0-2\nArchitecture: amd64\nFilename: ${current}\nSize: ${CURRENT.length}\nSHA256: ${sha256(CURRENT)}\n\n`;
  const list = gzipSync(packages);
  const until = about.until === undefined ? '' : `Valid-Until: ${about.until}\n`;
  const text = `Origin: Test\nSuite: ${about.suite ?? 'test'}\nCodename: ${about.suite ?? 'test'}\nDate: ${about.date ?? DATE}\n${until}SHA256:\n ${sha256(list)} ${list.length} main/binary-amd64/Packages.gz\n`;
  const message = await openpgp.createCleartextMessage({ text });
  const signed = await openpgp.sign({ message, signingKeys: about.key ?? signing, date: about.signedAt ?? new Date() });
  const suite = about.suite === 'sid' ? 'sid' : 'test';
  served.set(`/debian/dists/${suite}/InRelease`, about.change?.(signed) ?? signed);
  served.set(`/debian/dists/${suite}/main/binary-amd64/by-hash/SHA256/${sha256(list)}`, list);
  served.set(`/debian/${current}`, CURRENT);
}

/** Serves the signed index of security updates with a list of packages. */
async function serveSecurity(list: Buffer): Promise<void> {
  const text = `Codename: test-security\nDate: ${SECURITY_DATE}\nSHA256:\n ${sha256(list)} ${list.length} main/binary-amd64/Packages.gz\n`;
  const signed = await openpgp.sign({ message: await openpgp.createCleartextMessage({ text }), signingKeys: signing });
  served.set('/debian-security/dists/test-security/InRelease', signed);
  served.set(`/debian-security/dists/test-security/main/binary-amd64/by-hash/SHA256/${sha256(list)}`, list);
}

test('a pinned package comes from the mirror, and once', async () => {
  served.set(`/debian/${pin.path}`, PINNED);
  const first = await open().fetch(pin, at);
  expect(first).toMatchObject({ package: pin, status: 'pinned' });
  expect(await readFile(first.file, 'utf8')).toBe(PINNED);
  await open().fetch(pin, at);
  expect(asked).toEqual([`/debian/${pin.path}`]);
});

test('what has left the mirror comes from the snapshot archive at the pinned time, and is still the pinned package', async () => {
  served.set(`/snapshot/${STAMP}/${pin.path}`, PINNED);
  await serveSuite();
  expect(await open().fetch(pin, at)).toMatchObject({ package: pin, status: 'pinned' });
  expect(asked).toEqual([`/debian/${pin.path}`, `/snapshot/${STAMP}/${pin.path}`]);
  expect(notices()).toEqual([]);
});

test('what has left both is replaced by the current version, with a notice and a status that says so', async () => {
  await serveSuite();
  const { file, package: got, status } = await open().fetch(pin, at);
  expect(await readFile(file, 'utf8')).toBe(CURRENT);
  expect(got).toEqual({ name: 'tool', version: '1.0-2', path: current, sha256: sha256(CURRENT), size: CURRENT.length });
  expect(status).toBe('unpinned: tool 1.0-1 has left the archive, 1.0-2 replaces it');
  expect(notices()).toEqual([expect.stringContaining('NOT FOR PUBLISHING')]);
});

test('a snapshot archive that is not there does not stop a build', async () => {
  await serveSuite();
  const archive = openArchive(store, () => undefined, { mirror: `${base}/debian`, snapshot: 'http://snapshot.invalid', keyring });
  expect((await archive.fetch(pin, at)).package.version).toBe('1.0-2');
});

const repin = 'flatcar-ext pin tool --revision';

test('a package of an extension that has left the archive is not replaced: the error names its current version and the command', async () => {
  await serveSuite();
  const error: unknown = await open()
    .fetchPackage(pin, { ...at, repin })
    .catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(UserError);
  expect(error).toMatchObject({
    message: 'tool 1.0-1 has left the Debian archive; the current packages of test cannot be read: this mirror has no test-security',
    where: `${base}/debian/${pin.path}`,
    next: expect.stringContaining(repin) as string,
  });
  expect(asked).not.toContain(`/debian/${current}`);
  // The positive control: the same from a snapshot archive.
  served.set(`/snapshot/${STAMP}/${pin.path}`, PINNED);
  expect(await readFile(await open().fetchPackage(pin, { ...at, repin }), 'utf8')).toBe(PINNED);
});

test('what has left the archive is told with its replacement, by indexes of the suite and of its security updates', async () => {
  await serveSuite();
  await serveSecurity(gzipSync(''));
  await expect(open().fetchPackage(pin, { ...at, repin })).rejects.toThrow('tool 1.0-1 has left the Debian archive; test now has 1.0-2');
});

test('security updates are newer, and come from their own archive', async () => {
  await serveSuite();
  // Who answers 404 for them keeps fixes from being seen: that is no smaller mirror, but another one.
  await expect(open().newest('test', 'x86-64')).rejects.toThrow('this mirror has no test-security');
  await serveSuite({ suite: 'sid' });
  expect((await open().newest('sid', 'x86-64')).packages.map(({ version }) => version)).toEqual(['1.0-2']);
  await serveSuite();
  events = [];

  const update = { path: 'pool/updates/main/t/tool/tool_1.0-2+deb1u1_amd64.deb', sha256: sha256('an update'), size: 'an update'.length };
  const list = gzipSync(
    `Package: tool\nVersion: 1.0-2+deb1u1\nFilename: ${update.path}\nSize: ${update.size}\nSHA256: ${update.sha256}\n\n`,
  );
  await serveSecurity(list);
  served.set(`/debian-security/${update.path}`, 'an update');
  const { packages, snapshot } = await open().newest('test', 'x86-64');
  expect(notices()).toEqual([expect.stringContaining('this mirror has no test-updates')]);
  expect(packages.map(({ version }) => version)).toEqual(['1.0-2+deb1u1']);
  expect(snapshot).toBe(snapshotStamp(new Date(SECURITY_DATE)));
  expect(await readFile(await open().fetchPackage(update, { ...at, repin }), 'utf8')).toBe('an update');
});

test('a damaged package is refused and nothing else is tried', async () => {
  served.set(`/debian/${pin.path}`, PINNED.replace('pinned', 'hacked'));
  served.set(`/snapshot/${STAMP}/${pin.path}`, PINNED);
  await serveSuite();
  await expect(open().fetch(pin, at)).rejects.toThrow(`sha256 ${pin.sha256} is pinned`);
  expect(asked).toEqual([`/debian/${pin.path}`]);
  expect(await store.blob(pin.sha256)).toBeUndefined();
});

test('a mirror that refuses is an error, not a reason for another version', async () => {
  served.set(`/debian/${pin.path}`, 403);
  await serveSuite();
  await expect(open().fetch(pin, at)).rejects.toThrow('the server answered 403');
  expect(asked).toEqual([`/debian/${pin.path}`]);
});

test('a mirror that cannot be reached is an error that no origin falls back on', async () => {
  const archive = openArchive(store, () => undefined, { mirror: 'http://mirror.invalid/debian', keyring });
  for (const asking of [archive.fetch(pin, at), archive.packages('test', 'main', 'x86-64')]) {
    const error: unknown = await asking.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UserError);
    expect(error).not.toBeInstanceOf(UnreachableError);
    expect(error).toMatchObject({ next: expect.stringContaining('FLATCAR_EXT_DEBIAN_MIRROR') as string });
  }
});

test('an index is believed only when a known key signed it, as it is and for this suite', async () => {
  const read = async (): Promise<unknown> => (await open().packages('test', 'main', 'x86-64')).packages;
  await serveSuite();
  expect(await read()).toMatchObject([{ name: 'tool', version: '1.0-2' }]);
  await serveSuite({ key: await newKey() });
  await expect(read()).rejects.toThrow('no good signature');
  await serveSuite({ change: (text) => text.replace(DATE, SECURITY_DATE) });
  await expect(read()).rejects.toThrow('no good signature');
  await serveSuite({ change: (text) => text.slice(text.indexOf('Origin'), text.indexOf('-----BEGIN PGP SIGNATURE')) });
  await expect(read()).rejects.toThrow('no good signature');
  await serveSuite({ suite: 'oldtest' });
  await expect(read()).rejects.toThrow('this is not the index of test');
});

test('an index is not believed by a key or subkey that has ended, however old the signature says that it is', async () => {
  const past = new Date(Date.now() - 60 * DAY);
  const made = async (options: object): Promise<openpgp.PrivateKey> =>
    (await openpgp.generateKey({ type: 'ecc', userIDs: [{ name: 'Old' }], format: 'object', date: past, ...options })).privateKey;
  const withSubkey = await made({ subkeys: [{ sign: true }] });
  const { retired, superseded } = {
    retired: await openpgp.revokeKey({
      key: await made({}),
      reasonForRevocation: { flag: openpgp.enums.reasonForRevocation.keyRetired },
      format: 'object',
    }),
    superseded: await openpgp.revokeKey({
      key: await made({}),
      reasonForRevocation: { flag: openpgp.enums.reasonForRevocation.keySuperseded },
      format: 'object',
    }),
  };
  const revokedSubkey = await openpgp.readPrivateKey({ armoredKey: withSubkey.armor() });
  revokedSubkey.subkeys[0] = await (revokedSubkey.subkeys[0] as openpgp.Subkey).revoke(withSubkey.keyPacket as openpgp.SecretKeyPacket, {
    flag: openpgp.enums.reasonForRevocation.keySuperseded,
  });
  const read = async (key: openpgp.PrivateKey, known: openpgp.Key): Promise<unknown> => {
    await serveSuite({ key, signedAt: new Date(past.getTime() + DAY / 2) });
    const options = { mirror: `${base}/debian/`, snapshot: `${base}/snapshot`, keyring: known.toPublic().armor() };
    return (await openArchive(store, () => undefined, options).packages('test', 'main', 'x86-64')).packages.length;
  };
  const expiring = await made({ keyExpirationTime: 86_400 });
  await expect(read(expiring, expiring)).rejects.toThrow(/no good signature by a known key of Debian: key 0x[0-9A-F]+ expired on/);
  for (const { privateKey, publicKey } of [retired, superseded])
    await expect(read(await openpgp.readPrivateKey({ armoredKey: privateKey.armor() }), publicKey)).rejects.toThrow(
      /is revoked|no good signature/,
    );
  await expect(read(withSubkey, revokedSubkey)).rejects.toThrow(/must not sign/);
  const expiringSubkey = await made({ subkeys: [{ sign: true, keyExpirationTime: 86_400 }] });
  await expect(read(expiringSubkey, expiringSubkey)).rejects.toThrow(/must not sign/);
  // The positive control: an old signature of a key that is good now.
  expect(await read(withSubkey, withSubkey)).toBe(1);
});

test('what stands outside the signed text of an index is not read', async () => {
  const fake = `Origin: Test\nSuite: test\nSHA256:\n ${'0'.repeat(64)} 1 main/binary-amd64/Packages.gz\n`;
  for (const change of [(text: string): string => `${fake}\n${text}`, (text: string): string => `${text}\n${fake}`]) {
    await serveSuite({ change });
    const outcome = await open()
      .packages('test', 'main', 'x86-64')
      .then(
        ({ packages }) => packages.map(({ version }) => version).join(),
        (error: Error) => error.message,
      );
    expect(outcome).toMatch(/^(1\.0-2|the package index has no good signature.*)$/);
  }
});

test('a list of packages that is not the one of the signed index is refused', async () => {
  await serveSuite();
  const [path, list] = [...served].find(([key]) => key.includes('by-hash')) ?? [];
  const other = Buffer.from(list as Buffer);
  other.writeUInt8(other.readUInt8(20) ^ 1, 20);
  served.set(path ?? '', other);
  await expect(open().packages('test', 'main', 'x86-64')).rejects.toThrow('wrong digest');
});

test('an index that has expired, or is too old for one that does not expire, is refused by everything that reads one', async () => {
  const read = [
    () => open().packages('test', 'main', 'x86-64'),
    () => open().newest('test', 'x86-64'),
    () => open().fetch(pin, at),
    () => open().sourceFile('pool/main/t/tool/tool.orig.tar.gz', ['test']),
  ];
  for (const one of read) {
    const until = utc(-1);
    await serveSuite({ until });
    await expect(one()).rejects.toThrow(`the package index expired on ${until}`);
    const date = utc(-400);
    await serveSuite({ date });
    await expect(one()).rejects.toThrow(`the package index is of ${date}, more than 365 days ago`);
  }
  expect(asked.filter((path) => path.includes('by-hash') || path === `/debian/${current}`)).toEqual([]);
  await serveSuite({ until: 'soon' });
  await expect(open().packages('test', 'main', 'x86-64')).rejects.toThrow("the index has no valid date of expiry: 'soon'");
  await serveSuite({ date: 'then' });
  await expect(open().packages('test', 'main', 'x86-64')).rejects.toThrow("the index has no valid date: 'then'");
  // The positive control: each by an index of these days.
  await serveSuite({ until: utc(1) });
  await open().packages('test', 'main', 'x86-64');
  expect((await open().fetch(pin, at)).status).toMatch(/^unpinned/);
});

test('an expired index of a snapshot archive is taken: it is old on purpose', async () => {
  await serveSuite({ until: 'Sat, 28 Nov 2020 09:15:44 UTC' });
  const copies = [...served];
  for (const [path, answer] of copies) served.set(path.replace('/debian/', '/archive/debian/20201128T000000Z/'), answer);
  const archive = openArchive(store, (event) => events.push(event), { mirror: `${base}/archive/debian/20201128T000000Z`, keyring });
  expect((await archive.packages('test', 'main', 'x86-64')).packages).toHaveLength(1);
  expect(notices()).toEqual([]);
});

test('nothing stands in by an index that is older than the pins: somebody serves an old one again', async () => {
  const date = utc(-7);
  await serveSuite({ date });
  await expect(open().fetch(pin, at)).rejects.toThrow(
    `the index of test is of ${snapshotStamp(new Date(date))}, older than the pinned packages (${STAMP})`,
  );
  expect(asked).not.toContain(`/debian/${current}`);
});

test('a wrong clock is told from a wrong signature', async () => {
  await serveSuite({ signedAt: new Date(Date.now() + 3 * 365 * DAY) });
  const error: unknown = await open()
    .packages('test', 'main', 'x86-64')
    .catch((cause: unknown) => cause);
  expect(error).toMatchObject({
    message: expect.stringMatching(
      /^the package index cannot be checked: it was signed at \d{4}-.*, and this machine's clock reads \d{4}-/,
    ) as string,
    next: expect.stringContaining('set the clock') as string,
  });
});

test('an index without end is not read to its end', async () => {
  served.set('/debian/dists/test/InRelease', 'x'.repeat(2 << 20));
  await expect(open().packages('test', 'main', 'x86-64')).rejects.toThrow('the server sends more than 1048576 bytes');
});

test('a list of packages that is too long, or that unpacks to more than any, is not read', async () => {
  const serve = async (list: Buffer, size = list.length): Promise<void> => {
    const text = `Suite: test\nCodename: test\nDate: ${DATE}\nSHA256:\n ${sha256(list)} ${size} main/binary-amd64/Packages.gz\n`;
    served.set(
      '/debian/dists/test/InRelease',
      await openpgp.sign({ message: await openpgp.createCleartextMessage({ text }), signingKeys: signing }),
    );
    served.set(`/debian/dists/test/main/binary-amd64/by-hash/SHA256/${sha256(list)}`, list);
  };
  await serve(gzipSync(''), 1 << 30);
  await expect(open().packages('test', 'main', 'x86-64')).rejects.toThrow(
    'main/binary-amd64/Packages of test has 1073741824 bytes, more than 67108864',
  );
  await serve(gzipSync(Buffer.alloc(513 << 20)));
  await expect(open().packages('test', 'main', 'x86-64')).rejects.toThrow('the list of packages cannot be unpacked: ');
});

test('a file of a source package is found in the first suite that has it, by the signed index', async () => {
  const sum = (name: string): string => ` ${sha256(name)} ${name.length} ${name}`;
  const entry = (name: string, folder: string): string =>
    `Package: ${name}\nFiles:\n d41d8cd98f00b204e9800998ecf8427e 5 ${name}.orig.tar.gz\nChecksums-Sha256:\n${sum(`${name}.dsc`)}\n${sum(`${name}.orig.tar.gz`)}\nDirectory: ${folder}\n\n`;
  const list = gzipSync(entry('tool', 'pool/main/t/tool2') + entry('tool', 'pool/main/t/tool') + entry('other', 'pool/main/o/other'));
  for (const [suite, index] of Object.entries({ empty: gzipSync(''), test: list, old: list })) {
    const text = `Codename: ${suite}\nDate: ${suite === 'old' ? utc(-400) : DATE}\nSHA256:\n ${sha256(index)} ${index.length} main/source/Sources.gz\n`;
    const message = await openpgp.createCleartextMessage({ text });
    served.set(`/debian/dists/${suite}/InRelease`, await openpgp.sign({ message, signingKeys: signing }));
    served.set(`/debian/dists/${suite}/main/source/by-hash/SHA256/${sha256(index)}`, index);
  }
  expect(await open().sourceFile('pool/main/t/tool/tool.orig.tar.gz', ['empty', 'test'])).toEqual({
    sha256: sha256('tool.orig.tar.gz'),
    size: 16,
    suite: 'test',
  });
  expect(await open().sourceFile('pool/main/t/tool/tool_2.orig.tar.gz', ['empty', 'test'])).toBeUndefined();
  // A path names its version: where one suite is too old, another may have it.
  expect(await open().sourceFile('pool/main/t/tool/tool.orig.tar.gz', ['old', 'test'])).toMatchObject({ suite: 'test' });
  expect(notices()).toEqual([expect.stringContaining('more than 365 days ago')]);
  await expect(open().sourceFile('pool/main/t/tool/tool_2.orig.tar.gz', ['old', 'test'])).rejects.toThrow('more than 365 days ago');
});

test('the index is read once for many packages', async () => {
  await serveSuite();
  const archive = open();
  const other = { ...pin, sha256: sha256('another'), path: 'pool/main/t/tool/tool_0.9_amd64.deb' };
  await Promise.all([archive.fetch(pin, at), archive.fetch(other, at)]);
  expect(asked.filter((path) => path.endsWith('InRelease'))).toHaveLength(1);
});

test('sources of both forms are read', () => {
  expect(
    parseSources(
      'debian.sources',
      'Types: deb deb-src\nURIs: http://a.example/debian\n# a comment\nSuites: one\n two\nComponents: main contrib\n\nEnabled: no\nTypes: deb\nURIs: http://b.example/\nSuites: x\nComponents: main\n\nTypes: deb-src\nURIs: http://c.example\nSuites: x\nComponents: main\n',
    ),
  ).toEqual([{ uris: ['http://a.example/debian'], suites: ['one', 'two'], components: ['main', 'contrib'], signedBy: '' }]);
  expect(
    parseSources(
      'sources.list',
      '# deb http://no.example x main\ndeb [arch=amd64 signed-by=/k] http://a.example/debian one main # why\ndeb-src http://a.example one main\n',
    ),
  ).toEqual([{ uris: ['http://a.example/debian'], suites: ['one'], components: ['main'], signedBy: '/k' }]);
});

/** A root with the given files; what apt of it takes Debian from. */
async function hostWith(files: Record<string, string>): Promise<string> {
  const root = await mkdtemp(join(dir, 'host-'));
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  return root;
}
const osRelease = (id: string, more = ''): Record<string, string> => ({ 'etc/os-release': `NAME=x\nID=${id}\n${more}` });
const listed = (text: string): Record<string, string> => ({ 'etc/apt/sources.list': text });
const deb822 = (fields: Record<string, string>): Record<string, string> => ({
  'etc/apt/sources.list.d/debian.sources': Object.entries({ Types: 'deb', Suites: 'trixie trixie-updates', Components: 'main', ...fields })
    .map(([key, value]) => `${key}: ${value}\n`)
    .join(''),
});
const OTHERS = {
  'etc/apt/sources.list.d/a.list': 'deb https://wine.example/wine-builds/debian one main\n',
  'etc/apt/sources.list.d/b.list': 'deb [signed-by=/usr/share/keyrings/vendor.gpg] https://vendor.example/debian trixie main\n',
  'etc/apt/sources.list.d/docker.list': 'deb https://docker.example/linux/debian trixie stable\n',
};

test.each<[string, Record<string, string>, string]>([
  ['a list', listed('deb http://b.example/debian/ trixie main\n'), 'http://b.example/debian'],
  [
    'a list with options',
    listed('deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://b.example/debian trixie main\n'),
    'http://b.example/debian',
  ],
  [
    'a proxy of any path, by -updates',
    listed('deb http://proxy.example/debian-main trixie main\ndeb http://proxy.example/debian-main trixie-updates main\n'),
    'http://proxy.example/debian-main',
  ],
  ['deb822', deb822({ URIs: 'http://mirror.example/proxy/debian-main/' }), 'http://mirror.example/proxy/debian-main'],
  [
    'deb822 with lower-case fields',
    { 'etc/apt/sources.list.d/d.sources': 'types: deb\nuris: http://l.example/debian\nsuites: trixie\ncomponents: main\n' },
    'http://l.example/debian',
  ],
  [
    'deb822 with a key inside',
    deb822({ URIs: 'http://k.example/debian', 'Signed-By': '\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc' }),
    'http://k.example/debian',
  ],
  [
    'several URIs, folded',
    deb822({ URIs: 'cdrom:[Debian]/\n http://two.example/debian\n http://three.example/debian' }),
    'http://two.example/debian',
  ],
  [
    'a list of mirrors on the host',
    {
      ...deb822({ URIs: 'mirror+file:///etc/apt/mirrors/debian.list' }),
      'etc/apt/mirrors/debian.list': '# ours\nftp://f.example/debian\nhttps://cloud.example/debian\tpriority:1\n',
    },
    'https://cloud.example/debian',
  ],
  ['aliases of suites', listed('deb http://a.example/debian stable main\n'), 'http://a.example/debian'],
  [
    'a codename of the host that is newer than this program',
    { ...osRelease('debian', 'VERSION_CODENAME=zurg\n'), ...listed('deb http://z.example/debian zurg main\n') },
    'http://z.example/debian',
  ],
  ['a quoted ID', { ...osRelease('"debian"'), ...listed('deb http://q.example/debian sid main\n') }, 'http://q.example/debian'],
])('the mirror of a Debian host is found: %s', async (_, files, expected) => {
  expect(await mirrorOfHost(await hostWith({ ...osRelease('debian'), ...OTHERS, ...files }))).toBe(expected);
});

test.each<[string, Record<string, string>]>([
  ['only archives of others', {}],
  ['tor', listed('deb tor+http://onion.example/debian trixie main\n')],
  ['a CD', listed('deb cdrom:[Debian GNU/Linux 13]/ trixie main\n')],
  ['files', listed('deb file:/srv/debian trixie main\ndeb copy:/srv/debian trixie-updates main\n')],
  ['a list of mirrors elsewhere', deb822({ URIs: 'mirror+https://lists.example/debian.txt' })],
  ['a list of mirrors that is not there', deb822({ URIs: 'mirror+file:/etc/apt/nothing' })],
  ['a password', listed('deb https://me:secret@private.example/debian trixie main\n')],
  ['what apt is to fill in', listed('deb http://m.example/$(ARCH)/debian trixie main\n')],
  ['a disabled entry', deb822({ URIs: 'http://d.example/debian', Enabled: 'no' })],
  ['sources only', deb822({ URIs: 'http://s.example/debian', Types: 'deb-src' })],
  ['security updates only', listed('deb http://s.example/debian-security trixie-security main\n')],
  ['another component', listed('deb http://c.example/debian trixie contrib\n')],
  ['a file that apt does not read', { 'etc/apt/sources.list.d/d.list.save': 'deb http://n.example/debian trixie main\n' }],
])('of a Debian host is passed over: %s', async (_, files) => {
  expect(await mirrorOfHost(await hostWith({ ...osRelease('debian'), ...OTHERS, ...files }))).toBeUndefined();
});

test.each<[string, string, string]>([
  ['Ubuntu', 'ubuntu', 'deb http://u.example/ubuntu noble main\ndeb http://u.example/ubuntu noble-updates main\n'],
  ['Mint', 'linuxmint', 'deb http://mint.example wilma main\ndeb http://u.example/debian noble-updates main\n'],
  ['Raspbian', 'raspbian', 'deb http://raspbian.example/raspbian trixie main\ndeb http://pi.example/debian/ trixie main\n'],
  ['Kali', 'kali', 'deb http://kali.example/kali kali-rolling main\n'],
  ['Devuan', 'devuan', 'deb http://devuan.example/merged daedalus main\ndeb http://devuan.example/debian daedalus-updates main\n'],
  ['Fedora', 'fedora', ''],
])("a derivative's own archive is never taken for Debian's: %s", async (_, id, sources) => {
  const root = await hostWith({ ...osRelease(id, 'ID_LIKE=debian\n'), ...listed(sources) });
  expect(await mirrorOfHost(root)).toBeUndefined();
  vi.stubEnv('FLATCAR_EXT_DEBIAN_MIRROR', '');
  expect(await debianMirror(root)).toBe(DEFAULT_MIRROR);
});

test('a mirror is the one of the environment, else that of a Debian host, else a public one by https', async () => {
  const debian = await hostWith({ ...osRelease('debian'), ...listed('deb http://own.example/debian trixie main\n') });
  vi.stubEnv('FLATCAR_EXT_DEBIAN_MIRROR', 'http://env.example/debian/');
  expect(await debianMirror(debian)).toBe('http://env.example/debian');
  vi.stubEnv('FLATCAR_EXT_DEBIAN_MIRROR', '');
  expect(await debianMirror(debian)).toBe('http://own.example/debian');
  expect(await debianMirror(await hostWith({}))).toBe(DEFAULT_MIRROR);
  expect(DEFAULT_MIRROR).toMatch(/^https:/);
  vi.stubEnv('FLATCAR_EXT_DEBIAN_MIRROR', 'mirror.example');
  await expect(debianMirror(debian)).rejects.toThrow("FLATCAR_EXT_DEBIAN_MIRROR: 'mirror.example' is not a valid http or https URL");
});

test("the snapshot archive is the one of the environment, else Debian's, whatever the mirror", () => {
  expect(snapshotArchive()).toMatch(/^https:\/\/snapshot\.[^/]+\/archive\/debian$/);
  vi.stubEnv('FLATCAR_EXT_DEBIAN_SNAPSHOT', 'https://snapshot.example/archive/debian/');
  expect(snapshotArchive()).toBe('https://snapshot.example/archive/debian');
  expect(snapshotStamp(new Date('Sat, 21 Nov 2026 09:15:44 UTC'))).toBe('20261121T091544Z');
});
