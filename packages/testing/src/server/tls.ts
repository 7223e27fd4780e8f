import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { archWords, digestOf, exec, hostArch, openArchive, openStore, unpackPackage, type Arch } from '@flatcar/core/engine';
import { expect } from 'vitest';
import type { Host, TlsHost, TlsServer } from '../hosts.ts';
import type { TlsCheck, TlsChecks } from '../spec.ts';

/** Where the files are on the host. */
const FOLDER = '/run/tls';
const PROBE = '/run/tls-probe';

const openssl = (...args: readonly string[]): Promise<string> => exec('openssl', args, { install: 'install openssl' });

/** Makes a CA, an intermediate CA and a certificate for loopback below a folder: `<name>-ca.pem`, `<name>.pem` (a chain) and `<name>.key`. */
async function makeChain(dir: string, name: string): Promise<void> {
  const path = (end: string): string => join(dir, name + end);
  const request = (subject: string, end: string): readonly string[] => [
    'req',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-subj',
    `/CN=${name} ${subject}`,
    '-keyout',
    path(`${end}.key`),
  ];
  const days = ['-days', '30'];
  const isCa = ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
  await openssl(...request('root', '-ca'), '-x509', ...days, ...isCa, '-out', path('-ca.pem'));
  const signed = async (subject: string, end: string, by: string, extensions: string): Promise<void> => {
    await openssl(...request(subject, end), '-out', path(`${end}.csr`));
    await writeFile(path(`${end}.ext`), extensions);
    const issuer = ['-CA', path(`${by}.pem`), '-CAkey', path(`${by}.key`), '-CAcreateserial'];
    await openssl(
      'x509',
      '-req',
      '-in',
      path(`${end}.csr`),
      ...issuer,
      ...days,
      '-extfile',
      path(`${end}.ext`),
      '-out',
      path(`${end}.pem`),
    );
  };
  await signed('intermediate', '-intermediate', '-ca', 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n');
  await signed('server', '', '-intermediate', 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n');
  await writeFile(path('-leaf.pem'), await readFile(path('.pem')));
  await writeFile(path('.pem'), (await readFile(path('.pem'), 'utf8')) + (await readFile(path('-intermediate.pem'), 'utf8')));
}

async function serve(dir: string, name: string): Promise<{ server: Server; about: TlsServer }> {
  const [key, cert] = await Promise.all(['key', 'pem'].map((kind) => readFile(join(dir, `${name}.${kind}`))));
  const server = createServer({ key, cert }, (_, response) => {
    response.setHeader('connection', 'close');
    response.end('hello over TLS\n');
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    server,
    about: { port, url: `https://127.0.0.1:${port}/`, certificate: `${FOLDER}/${name}.pem`, key: `${FOLDER}/${name}.key` },
  };
}

/** Adds a CA to the host's store in both forms that libraries read. */
const ADD_CA = `
set -e
mkdir -p /etc/ssl/certs
cat "$1" >>/etc/ssl/certs/ca-certificates.crt
cp "$1" "/etc/ssl/certs/$2.0"
`;

/** Adds a CA to a host's store, and starts one server whose certificate it signed and one whose certificate it did not. */
export async function withTls(host: Host, use: (tls: TlsHost) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'tls-'));
  const servers: Server[] = [];
  try {
    await chmod(dir, 0o755);
    const [trusted, stranger] = await Promise.all(
      ['trusted', 'stranger'].map(async (name) => {
        await makeChain(dir, name);
        const { server, about } = await serve(dir, name);
        servers.push(server);
        return about;
      }),
    );
    if (trusted === undefined || stranger === undefined) throw new Error('no servers');
    await host.share(dir, FOLDER);
    const ca = `${FOLDER}/trusted-ca.pem`;
    const hash = await openssl('x509', '-hash', '-noout', '-in', join(dir, 'trusted-ca.pem'));
    expect(await host.run(['sh', '-c', ADD_CA, 'sh', ca, hash.trim()])).toBe('');
    await use({ trusted, stranger, ca });
  } finally {
    for (const server of servers) server.close();
    await rm(dir, { recursive: true, force: true });
  }
}

/** Shows that a program accepts a server by a CA of the host's store, and refuses one by another CA. */
export async function verifyTls(host: Host, { trusted, stranger }: TlsHost, check: TlsCheck): Promise<void> {
  const { env } = check;
  const said = async (server: TlsServer): Promise<string> => host.run(check.run(server), { env });
  const [good, bad] = [await said(trusted), await said(stranger)];
  const program = check.run(trusted)[0] ?? '';
  expect(good, `${program} knows the CAs of the host's store`).toMatch(check.accepts);
  expect(good, `${program} knows the CAs of the host's store`).not.toMatch(check.refuses);
  expect(bad, `${program} refuses other CAs`).toMatch(check.refuses);
  expect(bad, `${program} refuses other CAs`).not.toMatch(check.accepts);
}

/** Libraries that verify certificates, each with the program of its own project that asks it about a chain. */
const TLS_LIBRARIES: readonly {
  readonly library: RegExp;
  readonly ask?: (server: string) => readonly string[];
  readonly accepts: RegExp;
  readonly refuses: RegExp;
}[] = [
  {
    library: /^libcrypto\.so\.\d+$/,
    ask: (server) => ['openssl', 'verify', '-untrusted', `${FOLDER}/${server}-intermediate.pem`, `${FOLDER}/${server}-leaf.pem`],
    accepts: /-leaf\.pem: OK$/m,
    refuses: /unable to get (?:local )?issuer certificate/,
  },
  {
    library: /^libgnutls\.so\.\d+$/,
    ask: (server) => ['certtool', '--verify', '--infile', `${FOLDER}/${server}.pem`],
    accepts: /Chain verification output: Verified\. The certificate is trusted/,
    refuses: /Chain verification output: Not verified\. The certificate is NOT trusted/,
  },
  // NSS has no store of the host: what an application makes of it is shown by that application only.
  { library: /^libnss3\.so$/, accepts: /./, refuses: /./ },
];

/** A library of a merged image that verifies certificates. */
interface TlsLibrary {
  readonly folder: string;
  readonly name: string;
}

/** The TLS libraries of an image that use its own C library. */
async function ownTlsLibraries(host: Host): Promise<TlsLibrary[]> {
  const listed = await host.run(['find', '/usr/lib', '-name', 'lib*.so*', '-path', '/usr/lib/*/*']);
  const loaders = await host.run(['find', '/usr/lib', '-name', 'ld-linux-*', '-path', '/usr/lib/*/*']);
  const own = new Set(
    loaders
      .split('\n')
      .map(dirname)
      .filter((folder) => !folder.endsWith('-linux-gnu')),
  );
  return listed
    .split('\n')
    .filter((path) => own.has(dirname(path)) && TLS_LIBRARIES.some(({ library }) => library.test(basename(path))))
    .map((path) => ({ folder: dirname(path), name: basename(path) }));
}

/** Programs from Debian packages that have a TLS library verify a chain. */
async function tlsPrograms(arch: Arch): Promise<string> {
  const store = openStore();
  const { dir } = await store.result('tls-programs', digestOf({ number: 1, arch }), async (fresh) => {
    const archive = openArchive(store);
    const { packages, snapshot } = await archive.newest('trixie', arch);
    // libssl is what openssl needs besides libcrypto; an image may have libcrypto only.
    for (const name of ['openssl', 'libssl3t64', 'gnutls-bin']) {
      const found = packages.find((one) => one.name === name);
      if (found === undefined) throw new Error(`trixie has no ${name}`);
      const file = await archive.fetchPackage(found, { suite: 'trixie', snapshot, arch, repin: 'run this again' });
      await unpackPackage(file, fresh);
    }
  });
  return dir;
}

/**
 * Checks that everything that verifies certificates in a merged image trusts the CAs of the host's store and no others: each TLS library, by
 * the program of its own project on the image's C library, and each program that the test of the extension names. Those run on the
 * machine's own architecture only, because an emulated program cannot start others.
 */
export async function expectHostCas(host: Host, arch: Arch, checks: TlsChecks): Promise<void> {
  const libraries = await ownTlsLibraries(host);
  expect(libraries, '`tls` in its test requires a TLS library in the image').not.toEqual([]);
  const { triplet, loader } = archWords(arch);
  await withTls(host, async (tls) => {
    await host.share(await tlsPrograms(arch), PROBE);
    for (const { folder, name } of libraries) {
      const { ask, accepts, refuses } = TLS_LIBRARIES.find(({ library }) => library.test(name)) ?? {};
      if (ask === undefined || accepts === undefined || refuses === undefined) {
        if (typeof checks === 'string')
          throw new Error(`only a program of the image shows which CAs ${name} trusts: name one under \`tls\``);
        continue;
      }
      const said = async (server: string): Promise<string> => {
        const [program = '', ...args] = ask(server);
        const start = [`${folder}/${basename(loader)}`, '--library-path', `${folder}:${PROBE}/usr/lib/${triplet}`];
        return host.run([...start, `${PROBE}/usr/bin/${program}`, ...args], { arch });
      };
      expect(await said('trusted'), `${folder}/${name} trusts the CAs of the host's store`).toMatch(accepts);
      expect(await said('stranger'), `${folder}/${name} refuses other CAs`).toMatch(refuses);
    }
    if (arch === hostArch() && typeof checks !== 'string') for (const check of checks) await verifyTls(host, tls, check);
  });
}
