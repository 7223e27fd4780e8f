import { createServer, type IncomingMessage, type Server } from 'node:http';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashFile, openStore, parseSums, selectTargets, type Release } from '@flatcar/core';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  githubDestination,
  initKeys,
  loadKeys,
  localDestination,
  publish,
  readPublished,
  withdraw,
  type Destination,
  type PublishKeys,
  type PublishResult,
} from '../src/index.ts';
import { sha256Of } from '../src/state.ts';
import { buildDemo } from './helpers/demo.ts';

interface Asset {
  name: string;
  digest: string;
  browser_download_url: string;
  bytes: Buffer;
}
interface Made {
  id: number;
  tag_name: string;
  draft: boolean;
  upload_url: string;
  assets: Asset[];
}

const [stable] = selectTargets('4593.2.5') as [Release];
const store = openStore();
let dir: string;
let keys: PublishKeys;
let server: Server;
let url: string;
let releases: Made[] = [];
/** Makes the next upload of an asset fail, as a dead connection would. */
let failAfter = Number.POSITIVE_INFINITY;
let tree: string;
let trees = 0;

const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
};

// The host cannot be reached from tests: what is used of its API, with immutable releases switched on.
beforeAll(async () => {
  server = createServer((request, response) => {
    void (async () => {
      const body = await bodyOf(request);
      const answer = (status: number, value?: unknown): void => {
        response.writeHead(status, { 'content-type': 'application/json' }).end(value === undefined ? undefined : JSON.stringify(value));
      };
      const shown = ({ assets, ...one }: Made): object => ({ ...one, assets: assets.map((asset) => ({ ...asset, bytes: undefined })) });
      const { pathname, searchParams } = new URL(request.url ?? '', url);
      const download = /^\/download\/(.+)$/.exec(pathname)?.[1];
      if (download !== undefined) {
        const asset = releases.filter(({ draft }) => !draft).flatMap(({ assets }) => assets).find(({ name }) => name === download); // prettier-ignore
        if (asset === undefined) return answer(404, { message: 'Not Found' });
        return void response.writeHead(200, { 'content-length': asset.bytes.length }).end(asset.bytes);
      }
      if (request.headers.authorization !== 'Bearer a token') return answer(401, { message: 'Bad credentials' });
      const [, id] = /^\/repos\/o\/r\/releases(?:\/(\d+))?$/.exec(pathname) ?? [];
      const found = releases.find((one) => String(one.id) === (id ?? /^\/upload\/(\d+)$/.exec(pathname)?.[1]));
      if (pathname.startsWith('/upload/') && found !== undefined) {
        if (!found.draft) return answer(422, { message: 'Cannot upload assets to an immutable release.' });
        failAfter -= 1;
        if (failAfter < 0) return answer(502, { message: 'Server Error' });
        const name = searchParams.get('name') ?? '';
        const asset = { name, digest: `sha256:${sha256Of(body)}`, browser_download_url: `${url}/download/${name}`, bytes: body };
        found.assets.push(asset);
        return answer(201, { name, digest: asset.digest });
      }
      if (request.method === 'GET' && id === undefined) return answer(200, releases.map(shown));
      if (request.method === 'POST') {
        const { tag_name, draft } = JSON.parse(body.toString()) as { tag_name: string; draft: boolean };
        const made = { id: Math.floor(Math.random() * 1e9), tag_name, draft, upload_url: '', assets: [] };
        releases.unshift({ ...made, upload_url: `${url}/upload/${made.id}{?name,label}` });
        return answer(201, shown(releases[0] as Made));
      }
      if (found === undefined) return answer(404, { message: 'Not Found' });
      if (request.method === 'PATCH') {
        found.draft = false;
        return answer(200, shown(found));
      }
      if (!found.draft) return answer(422, { message: 'an immutable release' });
      releases = releases.filter((one) => one !== found);
      answer(204);
    })();
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  dir = await mkdtemp(join(tmpdir(), 'github-'));
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  for (const version of ['1.0.0', '1.0.1']) await buildDemo(join(dir, version), { version, targets: ['portable', stable] });
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(() => {
  releases = [];
  failAfter = Number.POSITIVE_INFINITY;
  trees += 1;
  tree = join(dir, `tree${trees}`);
});

const place = (): Destination => githubDestination(localDestination(tree), 'o/r', { GITHUB_TOKEN: 'a token', GITHUB_API_URL: url });
const into = (...versions: string[]): Promise<PublishResult> =>
  publish({ paths: versions.map((version) => join(dir, version)), destination: place(), keys, baseUrl: 'https://one.example.org' });

test('images are assets of one release, which is finished before sums name them; the map leads to them', async () => {
  await into('1.0.0');
  expect(releases).toMatchObject([{ draft: false }]);
  // The official image is that of the folder.
  expect(releases[0]?.assets.map(({ name }) => name).toSorted()).toEqual(['amd64-usr_4593.2.5_flatcar-demo.gz', 'demo_4593.2.5_demo-1.0.0-4593.2.5-x86-64.raw', 'demo_portable_demo-1.0.0-x86-64.raw']); // prettier-ignore
  const map = JSON.parse(await readFile(join(tree, 'redirects/map.json'), 'utf8')) as Record<string, { url: string }>;
  expect(Object.keys(map)).toEqual(['amd64-usr/4593.2.5/flatcar-demo.gz', 'amd64-usr/4593.2.5/flatcar-demo.raw', 'demo/4593.2.5/demo-1.0.0-4593.2.5-x86-64.raw', 'demo/portable/demo-1.0.0-x86-64.raw']); // prettier-ignore
  for (const folder of ['demo/4593.2.5', 'demo/portable', 'amd64-usr/4593.2.5']) {
    for (const [name, sha256] of parseSums(await readFile(join(tree, folder, 'SHA256SUMS'), 'utf8'), folder)) {
      const got = await fetch(map[`${folder}/${name}`]?.url ?? '');
      expect(sha256Of(Buffer.from(await got.arrayBuffer()))).toBe(sha256);
    }
  }
  expect(await readFile(join(tree, 'redirects/nginx.conf'), 'utf8')).toContain(
    `/demo/portable/demo-1.0.0-x86-64.raw ${url}/download/demo_portable_demo-1.0.0-x86-64.raw;\n`,
  );
  // Again: nothing; another version: another release.
  expect(await into('1.0.0')).toMatchObject({ added: [], signed: [] });
  expect(releases).toHaveLength(1);
  await into('1.0.1');
  expect(releases).toHaveLength(2);
  const published = await readPublished(place(), keys.trusted);
  for (const { images } of (await published.extension('demo'))?.versions ?? [])
    for (const image of images) expect(await hashFile(await place().tree(store).file(image.path, image))).toBe(image.sha256);
});

test('an upload that fails leaves a draft and nothing served; the next run begins it anew', async () => {
  failAfter = 1;
  await expect(into('1.0.0')).rejects.toThrow('GitHub answered 502');
  expect(releases).toMatchObject([{ draft: true }]);
  expect(await readFile(join(tree, 'index.json')).catch(() => undefined)).toBe(undefined);
  expect(await readFile(join(tree, 'demo/portable/SHA256SUMS')).catch(() => undefined)).toBe(undefined);
  failAfter = Number.POSITIVE_INFINITY;
  await into('1.0.0');
  expect(releases).toMatchObject([{ draft: false }]);
});

test('a release that was finished before the publish died is taken, not made twice', async () => {
  await into('1.0.0');
  await rm(tree, { recursive: true });
  await into('1.0.0');
  expect(releases).toHaveLength(1);
});

test('other bytes are refused, and a version is withdrawn out of the assets', async () => {
  await into('1.0.0', '1.0.1');
  await buildDemo(join(dir, 'other'), { version: '1.0.1', targets: ['portable'], says: 'something else' });
  await expect(into('other')).rejects.toThrow('published with other bytes');
  const destination = place();
  await withdraw({
    name: 'demo',
    version: '1.0.1',
    content: '1.0.0',
    reason: 'bad',
    tree: destination.tree(store),
    destination,
    keys,
    store,
    report: () => undefined,
  });
  expect(await readFile(join(tree, 'demo/portable/SHA256SUMS'), 'utf8')).toContain('demo-1.0.1-1-x86-64.raw');
});

test('a missing or wrong token is told', async () => {
  expect(() => githubDestination(localDestination(tree), 'o/r', {})).toThrow('no token for GitHub');
  const wrong = githubDestination(localDestination(tree), 'o/r', { GITHUB_TOKEN: 'another', GITHUB_API_URL: url });
  await expect(publish({ paths: [join(dir, '1.0.0')], destination: wrong, keys, baseUrl: 'https://one.example.org' })).rejects.toThrow(
    'GitHub answered 401: Bad credentials',
  );
});
