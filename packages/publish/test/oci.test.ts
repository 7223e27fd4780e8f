import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { openStore } from '@flatcar/core/engine';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { initKeys, loadKeys, localDestination, openTree, publish, pushOci, type PublishKeys } from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { trustOf } from './helpers/trust.ts';

// To whom credentials for a registry are given. A real registry takes images in oci.merge.test.ts.
let dir: string;
let keys: PublishKeys;
let registry: Server;
let other: Server;
let host: string;
let elsewhere: string;
let realm: (own: string) => string;
/** The challenge by which the other host refuses uploads. */
let refusal: string | undefined;
/** For which services tokens were asked for. */
let services: (string | null)[] = [];
/** What the other host was sent in Authorization. */
let got: (string | undefined)[];

const listen = async (server: Server): Promise<string> => {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
};

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'oci-'));
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  await buildDemo(join(dir, 'one'), { version: '1.0.0', targets: ['portable'] });
  await publish({ paths: [join(dir, 'one')], destination: localDestination(join(dir, 'tree')), keys, baseUrl: 'https://one.example.org' });
  registry = createServer((request, response) => {
    request.resume();
    const { authorization } = request.headers;
    if (request.url?.startsWith('/token') === true) {
      services.push(new URL(request.url, 'http://x').searchParams.get('service'));
      return void response.end('{"token":"of the registry"}');
    }
    if (authorization !== 'Bearer of the registry')
      return void response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm(`http://${host}/token`)}",service="x"` }).end();
    if (request.method === 'POST') return void response.writeHead(202, { location: `http://${elsewhere}/upload?x` }).end();
    response.writeHead(404).end();
  });
  other = createServer((request, response) => {
    got.push(request.headers.authorization);
    request.resume();
    if (refusal !== undefined) return void response.writeHead(401, { 'www-authenticate': refusal }).end();
    response.writeHead(201).end('{"token":"of another"}');
  });
  [host, elsewhere] = [await listen(registry), await listen(other)];
});
afterAll(async () => {
  for (const server of [registry, other]) {
    server.closeAllConnections();
    server.close();
  }
  await rm(dir, { recursive: true, force: true });
});
beforeEach(() => {
  got = [];
  refusal = undefined;
});

const push = (env: Record<string, string> = {}): ReturnType<typeof pushOci> =>
  pushOci({
    tree: openTree(join(dir, 'tree'), openStore()),
    to: `${host}/flatcar`,
    trust: trustOf(keys),
    env: { OCI_USERNAME: 'user', OCI_PASSWORD: 'password', ...env },
  });

test.each(['http://{elsewhere}/token', 'https://auth.evil.example/token', 'ftp://x', 'no URL'])(
  'user and password are not sent to %s',
  async (where) => {
    realm = () => where.replace('{elsewhere}', elsewhere);
    await expect(push()).rejects.toThrow('asks for credentials to be sent to');
    // Plain http elsewhere stays refused, also when it is named.
    if (where.includes('elsewhere'))
      await expect(push({ OCI_TOKEN_HOST: elsewhere })).rejects.toThrow('asks for credentials to be sent to');
    expect(got).toEqual([]);
  },
);

test('an upload that is sent to another host gets no token', async () => {
  realm = (own) => own;
  await expect(push()).rejects.toThrow(/the registry answered 404|answered 4/);
  expect(got.length).toBeGreaterThan(0);
  expect(new Set(got)).toEqual(new Set([undefined]));
});

test.each(['Basic realm="x"', `Bearer realm="{own}",service="evil"`])(
  'an upload that is sent to another host, which asks for credentials (%s), gets none, and no token is fetched for it',
  async (challenge) => {
    realm = (own) => own;
    refusal = challenge.replace('{own}', `http://${host}/token`);
    services = [];
    await expect(push()).rejects.toThrow('the registry answered 401');
    expect(new Set(got)).toEqual(new Set([undefined]));
    expect(new Set(services)).toEqual(new Set(['x']));
  },
);

test('empty variables are unset ones', async () => {
  realm = (own) => own;
  got = [];
  await expect(push({ OCI_USERNAME: '', OCI_PASSWORD: '', OCI_TOKEN_HOST: '' })).rejects.toThrow();
  expect(new Set(got)).toEqual(new Set([undefined]));
});

describe('a registry over https, on a host of its own', () => {
  let tls: { key: Buffer; cert: Buffer };
  const before = getCACertificates('default');
  const servers: Server[] = [];
  let asked: string[] = [];

  beforeAll(async () => {
    const subject = ['-subj', '/CN=registry', '-addext', 'subjectAltName=IP:127.0.0.2,IP:127.0.0.3'];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'key', '-out', 'cert', '-days', '2', ...subject], {
      cwd: dir,
      stdio: 'pipe',
    });
    tls = { key: await readFile(join(dir, 'key')), cert: await readFile(join(dir, 'cert')) };
    setDefaultCACertificates([...before, tls.cert.toString()]);
  });
  afterAll(() => setDefaultCACertificates(before));
  beforeEach(() => {
    asked = [];
  });
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
  });

  /** Starts a server on an address of this machine, which notes what it is asked. */
  async function serve(address: string, handler: RequestListener): Promise<string> {
    const server = createTlsServer(tls, (request, response) => {
      request.resume();
      asked.push(`${address} ${request.method} ${request.headers.authorization ?? 'none'}`);
      handler(request, response);
    });
    servers.push(server);
    await new Promise<void>((resolve) => {
      server.listen(0, address, resolve);
    });
    return `${address}:${(server.address() as AddressInfo).port}`;
  }
  const pushTo = (where: string, env: Record<string, string> = {}): ReturnType<typeof pushOci> =>
    pushOci({
      tree: openTree(join(dir, 'tree'), openStore()),
      to: `${where}/flatcar`,
      trust: trustOf(keys),
      env: { OCI_USERNAME: 'user', OCI_PASSWORD: 'password', ...env },
    });
  const BASIC = `Basic ${Buffer.from('user:password').toString('base64')}`;

  test('its password goes to another https host only where OCI_TOKEN_HOST names that', async () => {
    const tokens = await serve('127.0.0.3', (_, response) => void response.end('{"token":"abc"}'));
    const own = await serve('127.0.0.2', ({ headers }, response) => {
      if (headers.authorization === 'Bearer abc') response.writeHead(404).end();
      else response.writeHead(401, { 'www-authenticate': `Bearer realm="https://${tokens}/token"` }).end();
    });
    await expect(pushTo(own)).rejects.toMatchObject({
      message: `the registry asks for credentials to be sent to 'https://${tokens}/token', which is not its own https host`,
      next: expect.stringContaining(`OCI_TOKEN_HOST=${tokens}`),
    });
    expect(asked).toEqual(['127.0.0.2 GET none']);
    await expect(pushTo(own, { OCI_TOKEN_HOST: tokens })).rejects.toThrow('the registry answered 404');
    expect(asked.filter((one) => one.startsWith('127.0.0.3'))).toEqual([`127.0.0.3 GET ${BASIC}`]);
    expect(asked.at(-1)).toBe('127.0.0.2 POST Bearer abc');
  });

  test.each(['http://127.0.0.1:9/token', 'http://{own}/token'])('nor does it go over plain http, to %s', async (realmUrl) => {
    let own = '';
    own = await serve('127.0.0.2', (_, response) => {
      response.writeHead(401, { 'www-authenticate': `Bearer realm="${realmUrl.replace('{own}', own)}"` }).end();
    });
    await expect(pushTo(own, { OCI_TOKEN_HOST: '127.0.0.1:9' })).rejects.toThrow('asks for credentials to be sent to');
    expect(asked).toEqual(['127.0.0.2 GET none']);
  });

  test.each(['http://127.0.0.1:9/upload', 'file:///etc/passwd', 'http://[', ''])('an upload is not sent to %s', async (location) => {
    const own = await serve(
      '127.0.0.2',
      ({ method }, response) => void response.writeHead(method === 'POST' ? 202 : 404, { location }).end(),
    );
    await expect(pushTo(own)).rejects.toThrow('which is not a valid address for an upload');
    expect(new Set(asked.map((one) => one.split(' ')[1]))).toEqual(new Set(['GET', 'HEAD', 'POST']));
  });
});
