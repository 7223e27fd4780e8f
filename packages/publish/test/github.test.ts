import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashFile, openStore, parseSums, selectTargets, type Release } from '@flatcar/core/engine';
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
import { sha256Of } from '../src/tree/digest.ts';
import { buildDemo } from './helpers/demo.ts';
import { startGithub, type TestGithub } from './helpers/github.ts';
import { trustOf } from './helpers/trust.ts';

const [stable] = selectTargets('4593.2.5') as [Release];
const store = openStore();
let dir: string;
let keys: PublishKeys;
let github: TestGithub;
let tree: string;
let trees = 0;

beforeAll(async () => {
  github = await startGithub();
  dir = await mkdtemp(join(tmpdir(), 'github-'));
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  for (const version of ['1.0.0', '1.0.1']) await buildDemo(join(dir, version), { version, targets: ['portable', stable] });
});
afterAll(async () => {
  github.close();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(() => {
  github.releases = [];
  github.failAfter = Number.POSITIVE_INFINITY;
  trees += 1;
  tree = join(dir, `tree${trees}`);
});

const place = (): Destination => githubDestination(localDestination(tree), 'o/r', { GITHUB_TOKEN: 'a token', GITHUB_API_URL: github.url });
const into = (...versions: string[]): Promise<PublishResult> =>
  publish({ paths: versions.map((version) => join(dir, version)), destination: place(), keys, baseUrl: 'https://one.example.org' });

test('images are assets of one release, which is finished before sums name them; the map leads to them', async () => {
  await into('1.0.0');
  expect(github.releases).toMatchObject([{ draft: false }]);
  // The official image is that of the folder.
  expect(github.releases[0]?.assets.map(({ name }) => name).toSorted()).toEqual([
    'amd64-usr_4593.2.5_flatcar-demo.gz',
    'demo_4593.2.5_demo.4593.2.5_1.0.0_x86-64.raw',
    'demo_portable_demo.portable_1.0.0_x86-64.raw',
  ]);
  const map = JSON.parse(await readFile(join(tree, 'redirects/map.json'), 'utf8')) as Record<string, { url: string }>;
  expect(Object.keys(map)).toEqual([
    'amd64-usr/4593.2.5/flatcar-demo.gz',
    'amd64-usr/4593.2.5/flatcar-demo.raw',
    'demo/4593.2.5/demo.4593.2.5_1.0.0_x86-64.raw',
    'demo/portable/demo.portable_1.0.0_x86-64.raw',
  ]);
  for (const folder of ['demo/4593.2.5', 'demo/portable', 'amd64-usr/4593.2.5']) {
    for (const [name, sha256] of parseSums(await readFile(join(tree, folder, 'SHA256SUMS'), 'utf8'), folder)) {
      if (name.startsWith('BEST-BEFORE-')) continue;
      const got = await fetch(map[`${folder}/${name}`]?.url ?? '');
      expect(sha256Of(Buffer.from(await got.arrayBuffer()))).toBe(sha256);
    }
  }
  expect(await readFile(join(tree, 'redirects/nginx.conf'), 'utf8')).toContain(
    `/demo/portable/demo.portable_1.0.0_x86-64.raw ${github.url}/download/demo_portable_demo.portable_1.0.0_x86-64.raw;\n`,
  );
  // Again: nothing; another version: another release.
  expect(await into('1.0.0')).toMatchObject({ added: [], signed: [] });
  expect(github.releases).toHaveLength(1);
  await into('1.0.1');
  expect(github.releases).toHaveLength(2);
  const published = await readPublished(place(), trustOf(keys));
  for (const { images } of (await published.extension('demo'))?.versions ?? [])
    for (const image of images) expect(await hashFile(await place().tree(store).file(image.path, image))).toBe(image.sha256);
});

test('an upload that fails leaves a draft and nothing served; the next run begins it anew', async () => {
  github.failAfter = 1;
  await expect(into('1.0.0')).rejects.toThrow('GitHub answered 502');
  expect(github.releases).toMatchObject([{ draft: true }]);
  expect(await readFile(join(tree, 'index.json')).catch(() => undefined)).toBe(undefined);
  expect(await readFile(join(tree, 'demo/portable/SHA256SUMS')).catch(() => undefined)).toBe(undefined);
  github.failAfter = Number.POSITIVE_INFINITY;
  await into('1.0.0');
  expect(github.releases).toMatchObject([{ draft: false }]);
});

test('a release that was finished before the publish died is taken, not made twice', async () => {
  await into('1.0.0');
  await rm(tree, { recursive: true });
  await into('1.0.0');
  expect(github.releases).toHaveLength(1);
});

test('other bytes are refused, and a version is withdrawn out of the assets', async () => {
  await into('1.0.0', '1.0.1');
  await buildDemo(join(dir, 'other'), { version: '1.0.1', targets: ['portable'], says: 'something else' });
  await expect(into('other')).rejects.toMatchObject({ code: 'name-taken' });
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
  expect(await readFile(join(tree, 'demo/portable/SHA256SUMS'), 'utf8')).toContain('demo.portable_1.0.1-1_x86-64.raw');
});

test('a missing or wrong token is told', async () => {
  expect(() => githubDestination(localDestination(tree), 'o/r', {})).toThrow('no token for GitHub');
  const wrong = githubDestination(localDestination(tree), 'o/r', { GITHUB_TOKEN: 'another', GITHUB_API_URL: github.url });
  await expect(publish({ paths: [join(dir, '1.0.0')], destination: wrong, keys, baseUrl: 'https://one.example.org' })).rejects.toThrow(
    'GitHub answered 401: Bad credentials',
  );
});

test('the token goes to GitHub only, wherever an answer says that assets are to be sent', async () => {
  const got: (string | undefined)[] = [];
  const other = createServer((request, response) => {
    got.push(request.headers.authorization);
    response.end('{}');
  });
  await new Promise<void>((resolve) => {
    other.listen(0, '127.0.0.1', resolve);
  });
  const forged = await startGithub();
  forged.uploadsTo = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
  try {
    const destination = githubDestination(localDestination(tree), 'o/r', { GITHUB_TOKEN: 'a token', GITHUB_API_URL: forged.url });
    await expect(publish({ paths: [join(dir, '1.0.0')], destination, keys, baseUrl: 'https://one.example.org' })).rejects.toThrow(
      'GitHub names a host that is not its own',
    );
    expect(got).toEqual([]);
  } finally {
    forged.close();
    other.close();
  }
});
