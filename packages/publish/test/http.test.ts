import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { openStore } from '@flatcar/core/engine';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { httpSource, openTree, readPublished } from '../src/index.ts';
import { noMemory } from '../src/tree/memory.ts';

/** A client that has not read the tree before. */
const NEW = { firstUse: true, memory: noMemory };

// What servers answer in place of a published tree.
const servers: Server[] = [];
const before = getCACertificates('default');
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'http-'));
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      'key.pem',
      '-out',
      'cert.pem',
      '-days',
      '2',
      '-subj',
      '/CN=127.0.0.1',
      '-addext',
      'subjectAltName=IP:127.0.0.1',
    ],
    { cwd: dir, stdio: 'pipe' },
  );
  setDefaultCACertificates([...before, await readFile(join(dir, 'cert.pem'), 'utf8')]);
});
afterAll(async () => {
  setDefaultCACertificates(before);
  await rm(dir, { recursive: true, force: true });
});
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function serve(handler: RequestListener, tls = false): Promise<string> {
  const server = tls
    ? createTlsServer({ key: await readFile(join(dir, 'key.pem')), cert: await readFile(join(dir, 'cert.pem')) }, handler)
    : createServer(handler);
  servers.push(server);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return `${tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test.each([403, 404, 410])('an index that is answered with %i is an error that names it, unless the tree may be empty', async (status) => {
  const url = await serve((_, response) => void response.writeHead(status).end());
  const tree = openTree(url, openStore());
  await expect(readPublished(tree, NEW)).rejects.toThrow(
    `nothing is published here: the server answered ${status} for metadata/1.root.json`,
  );
  await expect(readPublished(tree, NEW)).rejects.toMatchObject({ where: url, next: expect.stringContaining('--first-publish') });
  expect((await readPublished(tree, NEW, { firstPublish: true })).index).toBe(undefined);
});

test('a server that fails for a moment is asked again; one that goes on is an error even where the tree may be empty', async () => {
  let count = 0;
  const passing = await serve((_, response) => {
    count += 1;
    response.writeHead(count < 3 ? 503 : 200).end('text');
  });
  expect((await httpSource(passing).read('index.json'))?.toString()).toBe('text');
  const broken = await serve((_, response) => void response.writeHead(500).end());
  await expect(readPublished(httpSource(broken), NEW, { firstPublish: true })).rejects.toThrow('the server answered 500');
});

test('redirects are followed, within http and from http to https; loops and other schemes are errors that name the URL', async () => {
  const secure = await serve((request, response) => {
    if (request.url === '/there/index.json') response.end('secure');
    else response.writeHead(302, { location: '/there/index.json' }).end();
  }, true);
  const url = await serve((request, response) => {
    const to = {
      '/a/index.json': '/b/index.json',
      '/loop/index.json': '/loop/index.json',
      '/up/index.json': `${secure}/x`,
      '/file/index.json': 'file:///etc/passwd',
      '/bad/index.json': 'http://[',
    }[request.url ?? ''];
    if (to === undefined) response.end('plain');
    else response.writeHead(301, { location: to }).end();
  });
  const read = async (path: string): Promise<string> => (await httpSource(`${url}/${path}`).read('index.json'))?.toString() ?? '';
  expect(await read('a')).toBe('plain');
  expect(await read('up')).toBe('secure');
  await expect(read('loop')).rejects.toThrow('redirects more than 10 times');
  await expect(read('loop')).rejects.toMatchObject({ where: `${url}/loop/index.json` });
  await expect(read('file')).rejects.toThrow("redirects to 'file:///etc/passwd'");
  await expect(read('bad')).rejects.toThrow('not a valid http(s) URL');
});

test('nothing is taken over http where https was asked for', async () => {
  const plain = await serve((_, response) => void response.end('forged'));
  const secure = await serve((_, response) => void response.writeHead(302, { location: `${plain}/index.json` }).end(), true);
  await expect(httpSource(secure).read('index.json')).rejects.toThrow(`redirects from https to ${plain}`);
});

test('a page for a person is not a tree, wherever it is from', async () => {
  const portal = await serve(
    (_, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('\n<!DOCTYPE html><html><body>Log in</body></html>'),
  );
  const url = await serve((_, response) => void response.writeHead(302, { location: `${portal}/login` }).end());
  await expect(readPublished(httpSource(portal), NEW)).rejects.toThrow('answers with a web page instead of the file');
  await expect(readPublished(httpSource(url), NEW, { firstPublish: true })).rejects.toMatchObject({
    where: `${url}/metadata/1.root.json, redirected to ${portal}/login`,
  });
});

test('a version with a plus sign is asked for as %2B', async () => {
  const asked: (string | undefined)[] = [];
  const url = await serve((request, response) => {
    asked.push(request.url);
    response.writeHead(404).end();
  });
  await httpSource(url).read('k3s/portable/k3s.portable_1.33.1+k3s1_x86-64.raw');
  expect(asked).toEqual(['/k3s/portable/k3s.portable_1.33.1%2Bk3s1_x86-64.raw']);
});
