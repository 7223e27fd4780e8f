// Commands that read a published tree: show, diff, fetch and ready.
import { createServer, type Server, type ServerResponse } from 'node:http';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectTargets, type Release } from '@flatcar/core/engine';
import { initKeys, loadKeys, localDestination, publish } from '@flatcar/publish';
import { buildDemo } from '@flatcar/publish/test/helpers/demo';
import type { Difference } from '@flatcar/core/engine';
import type { FetchedImage } from '@flatcar/workspace/published/fetch';
import type { Readiness } from '@flatcar/workspace/published/ready';
import type { ShownTree } from '@flatcar/workspace/published/show';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { run } from '../src/run.ts';

const STABLE = '4593.2.5';
const BETA = '4790.0.0';
let dir: string;
let server: Server;
let url: string;
/** Requests of images, with their range. */
let requests: string[] = [];
/** Bytes after which the server ends a response with an image, once. */
let cut: number | undefined;

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly all: string;
}

/** Runs a command line in this process: in seconds, also on a busy machine. */
async function flatcarExt(...args: string[]): Promise<Ran> {
  const [out, all]: [string[], string[]] = [[], []];
  const capture =
    (...into: string[][]) =>
    (part: string | Uint8Array, done?: unknown): boolean => {
      for (const parts of into) parts.push(String(part));
      if (typeof done === 'function') (done as () => void)();
      return true;
    };
  const spies = [
    vi.spyOn(process.stdout, 'write').mockImplementation(capture(out, all)),
    vi.spyOn(process.stderr, 'write').mockImplementation(capture(all)),
  ];
  const code = await run(args).finally(() => spies.forEach((spy) => spy.mockRestore()));
  return { code, out: out.join('').trimEnd(), all: all.join('') };
}
const ofTree = (): string[] => ['--tree', url, '--root', join(dir, 'keys/metadata')];

async function jsonOf<T>(...args: string[]): Promise<T> {
  const { code, out, all } = await flatcarExt(...args, ...ofTree(), '--json');
  expect(code, all).toBe(0);
  return JSON.parse(out) as T;
}

/** Answers with a file, or with what follows the beginning that the client has. */
function serve(response: ServerResponse, path: string, bytes: Buffer, range: string | undefined): ServerResponse {
  const start = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
  const end = path.endsWith('.raw') ? (cut ?? bytes.length) : bytes.length;
  if (end < bytes.length) cut = undefined;
  response.writeHead(range === undefined ? 200 : 206, {
    'content-length': bytes.length - start,
    ...(range === undefined ? undefined : { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` }),
  });
  response.write(bytes.subarray(start, end), () => {
    if (end === bytes.length) response.end();
    else setTimeout(() => response.destroy(), 100);
  });
  return response;
}

/** demo 1.0.0 (withdrawn), 1.0.1 for both releases; other 3.0 for the older release and 2.0 for both; lone is portable only. */
beforeAll(async () => {
  vi.stubEnv('NO_COLOR', '1');
  dir = await mkdtemp(join(tmpdir(), 'published-'));
  await initKeys(join(dir, 'keys'));
  const [stable, beta] = selectTargets(`${STABLE},${BETA}`) as [Release, Release];
  const all = ['portable', stable, beta] as const;
  await buildDemo(join(dir, 'images'), { version: '1.0.0', targets: all });
  await buildDemo(join(dir, 'images-2'), { version: '1.0.1', targets: all, says: 'something longer than before' });
  await buildDemo(join(dir, 'images'), { name: 'other', version: '2.0', targets: all });
  await buildDemo(join(dir, 'images-2'), { name: 'other', version: '3.0', targets: ['portable', stable] });
  await buildDemo(join(dir, 'images'), { name: 'lone', version: '5', targets: ['portable'] });
  const options = {
    destination: localDestination(join(dir, 'tree')),
    keys: await loadKeys(join(dir, 'keys'), {}),
    unsigned: true,
    baseUrl: 'https://one.example.org',
  };
  await publish({ ...options, paths: [join(dir, 'images')] });
  const withdraw = { name: 'demo', version: '1.0.0', reason: 'it eats disks', by: '1.0.1' };
  await publish({ ...options, paths: [join(dir, 'images-2')], withdraw });
  server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? '');
    const { range } = request.headers;
    if (path.endsWith('.raw')) requests.push(`${path} ${range ?? 'whole'}`);
    void readFile(join(dir, 'tree', path)).then(
      (bytes) => serve(response, path, bytes, range),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((ready) => {
    server.listen(0, '127.0.0.1', ready);
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  vi.unstubAllEnvs();
  server.close();
  await rm(dir, { recursive: true, force: true });
});

describe('show', () => {
  test('lists all extensions, their newest versions and targets', async () => {
    const { code, out, all } = await flatcarExt('show', ...ofTree());
    expect(code, all).toBe(0);
    expect(out).toMatch(/^demo +1\.0\.1 +1 \(1 withdrawn\) +portable, 4593\.2\.5, 4790\.0\.0 +A demonstration$/m);
    expect(out).toMatch(/^other +3\.0 +2 +portable/m);
    expect(out).toContain(`index 2 of ${url}`);
  });

  test('lists versions × targets × architectures with sizes, components, and why a version was withdrawn', async () => {
    const { code, out, all } = await flatcarExt('show', 'demo', ...ofTree());
    expect(code, all).toBe(0);
    expect(out).toMatch(/^1\.0\.1 +4593\.2\.5 +squashfs +[\d.]+ KiB$/m);
    expect(out).toMatch(/^1\.0\.0 +4790\.0\.0 +ddi +[\d.]+ [KM]iB +withdrawn$/m);
    expect(out).toMatch(/^1\.0\.1 +demo +1\.0\.1 +upstream +MIT$/m);
    expect(out).toContain('withdrawn: 1.0.0: it eats disks; use 1.0.1');
    expect(out).not.toContain('other');
  });

  test('filters by release and architecture', async () => {
    const { extensions } = await jsonOf<ShownTree>('show', '--release', BETA);
    expect(extensions.map(({ name, versions }) => [name, versions.map(({ version }) => version)])).toEqual([
      ['demo', ['1.0.1', '1.0.0']],
      ['lone', []],
      ['other', ['2.0']],
    ]);
    const none = await jsonOf<ShownTree>('show', 'demo', '--arch', 'arm64');
    expect(none.extensions[0]?.versions).toEqual([]);
  });

  test('refuses an extension that is not published, and a tree that the root of trust does not verify', async () => {
    const unknown = await flatcarExt('show', 'nothing', ...ofTree());
    expect(unknown.code).toBe(1);
    expect(unknown.all).toContain("'nothing' is not published here");
    await initKeys(join(dir, 'others'));
    const unsigned = await flatcarExt('show', '--tree', url, '--keys', join(dir, 'others'));
    expect(unsigned.code).toBe(1);
    expect(unsigned.all).toContain('timestamp was signed by 0/1 keys');
    const unverified = await flatcarExt('show', '--tree', url);
    expect(unverified.code).toBe(1);
    expect(unverified.all).toContain('no root of trust is given');
  });
});

describe('diff of published versions', () => {
  test('is that of the image files', async () => {
    const files = ['images', 'images-2'].map((from, index) => `${dir}/${from}/demo/${STABLE}/demo.${STABLE}_1.0.${index}_x86-64.raw`);
    const { code, out, all } = await flatcarExt('diff', ...files, '--json');
    expect(code, all).toBe(0);
    requests = [];
    const published = await jsonOf<Difference>('diff', 'demo@1.0.0', 'demo@1.0.1', '--release', STABLE, '--arch', 'x86-64');
    expect(published.versions).toEqual([{ component: 'demo', before: '1.0.0', after: '1.0.1' }]);
    expect(published.files).toMatchObject([
      { what: 'changed', path: 'usr/bin/demo' },
      { path: 'usr/lib/extension-release.d/extension-release.demo' },
    ]);
    expect(published).toEqual(JSON.parse(out));
    expect(requests, 'no image is downloaded').toEqual([]);
  });

  test('refuses versions without a common target, and options of a tree without one', async () => {
    const none = await flatcarExt('diff', 'other@2.0', 'other@3.0', '--release', BETA, ...ofTree());
    expect(none.code).toBe(1);
    expect(none.all).toContain('have no image for the same target');
    const unknown = await flatcarExt('diff', 'demo@1.0.0', 'demo@9', ...ofTree());
    expect(unknown.all).toContain('published versions: 1.0.1, 1.0.0');
    expect((await flatcarExt('diff', 'a.raw', 'b.raw', '--release', BETA)).code).toBe(2);
  });
});

describe('fetch', () => {
  // A store of its own, which has no images yet.
  beforeAll(() => void vi.stubEnv('FLATCAR_EXT_CACHE', join(dir, 'store')));
  afterAll(() => void vi.unstubAllEnvs());

  test('continues an interrupted download, and downloads nothing twice', async () => {
    requests = [];
    cut = 1000;
    const out = join(dir, 'fetched');
    const args = ['fetch', 'demo', '--arch', 'x86-64', '--out', out];
    const [image] = await jsonOf<FetchedImage[]>(...args);
    expect(image).toMatchObject({ extension: 'demo', version: '1.0.1', target: 'portable', wasThere: false });
    expect((await readdir(out)).toSorted()).toEqual([
      'SHA256SUMS',
      'demo.portable_1.0.1_x86-64.manifest.json',
      'demo.portable_1.0.1_x86-64.provenance.json',
      'demo.portable_1.0.1_x86-64.raw',
      'demo.portable_1.0.1_x86-64.spdx.json',
    ]);
    expect(requests.map((one) => one.split(' ')[1])).toEqual(['whole', 'bytes=1000-']);
    requests = [];
    expect(await jsonOf<FetchedImage[]>(...args)).toMatchObject([{ wasThere: true }]);
    expect(requests).toEqual([]);
    const verified = await flatcarExt('verify', image?.file ?? '');
    expect(verified.code, verified.all).toBe(0);
  });

  test('takes the newest version that has an image for the release', async () => {
    const images = await jsonOf<FetchedImage[]>(
      'fetch',
      'other',
      'demo@1.0',
      '--release',
      BETA,
      '--arch',
      'x86-64',
      '--out',
      join(dir, 'beta'),
    );
    expect(images.map(({ extension, version }) => `${extension} ${version}`)).toEqual(['other 2.0', 'demo 1.0.1']);
  });

  test('keeps no image that does not match the index', async () => {
    const path = join(dir, `tree/other/${STABLE}/other.${STABLE}_3.0_x86-64.raw`);
    const bytes = await readFile(path);
    const bad = Buffer.from(bytes);
    bad.writeUInt8(bad.readUInt8(5000) ^ 1, 5000);
    await writeFile(path, bad);
    try {
      const out = join(dir, 'bad');
      await mkdir(out);
      const { code, all } = await flatcarExt('fetch', 'other', '--release', STABLE, '--arch', 'x86-64', '--out', out, ...ofTree());
      expect(code).toBe(1);
      expect(all).toContain('wrong digest');
      expect(await readdir(out)).toEqual([]);
    } finally {
      await writeFile(path, bytes);
    }
    expect((await stat(path)).size).toBe(bytes.length);
  });
});

describe('ready', () => {
  test('says which images nodes find after the update, and fails unless all are there', async () => {
    const { code, out, all } = await flatcarExt('ready', '--release', BETA, '--arch', 'x86-64', ...ofTree(), '--json');
    expect(code).toBe(1);
    expect(all).toContain(`1 of 3 images are not ready for Flatcar ${BETA}`);
    expect((JSON.parse(out) as Readiness[]).map(({ extension, state, version, newest }) => [extension, state, version, newest])).toEqual([
      ['demo', 'ready', '1.0.1', '1.0.1'],
      ['lone', 'ready', '5', '5'],
      ['other', 'older', '2.0', '3.0'],
    ]);
  });

  test('is met by a branch that nodes follow, and by all images of a release', async () => {
    expect(await jsonOf<Readiness[]>('ready', 'other@2', 'demo', '--release', BETA, '--arch', 'x86-64')).toHaveLength(2);
    expect(await jsonOf<Readiness[]>('ready', '--release', STABLE, '--arch', 'x86-64')).toHaveLength(3);
  });

  test('reports missing images of an unknown release, and of an architecture', async () => {
    const later = await flatcarExt('ready', 'demo', '--release', '4900.1.0', '--arch', 'x86-64', ...ofTree());
    expect(later.code).toBe(1);
    expect(later.out).toMatch(/^demo +4900\.1\.0 +x86-64 +1\.0\.1 +missing$/m);
    const arm = await flatcarExt('ready', 'demo', '--release', STABLE, ...ofTree());
    expect(arm.code).toBe(1);
    expect(arm.out).toMatch(/^demo +4593\.2\.5 +arm64 +missing$/m);
  });
});

describe('verify --tree', () => {
  test('accepts an image that the tree publishes, and refuses a withdrawn one and one of somebody else', async () => {
    const image = (from: string, version: string): string => join(dir, from, `demo/${STABLE}/demo.${STABLE}_${version}_x86-64.raw`);
    const good = await flatcarExt('verify', image('images-2', '1.0.1'), ...ofTree());
    expect(good.code, good.all).toBe(0);
    expect(good.out).toContain('published (index 2 of ');
    const alone = await flatcarExt('verify', image('images-2', '1.0.1'));
    expect(alone.code, alone.all).toBe(0);
    expect(alone.all).toContain('to check who published the images, pass --tree and --root');
    const withdrawn = await flatcarExt('verify', image('images', '1.0.0'), ...ofTree());
    expect(withdrawn.code).toBe(1);
    expect(withdrawn.all).toContain('was withdrawn: it eats disks');
    const [stable] = selectTargets(STABLE) as [Release];
    await buildDemo(join(dir, 'forged'), { version: '1.0.1', targets: [stable], says: 'an evil thing' });
    const forged = await flatcarExt('verify', image('forged', '1.0.1'), ...ofTree());
    expect(forged.code).toBe(1);
    expect(forged.all).toContain('the image is not the published one');
    expect((await flatcarExt('verify', image('forged', '1.0.1'))).code, 'its own sums and manifest agree with it').toBe(0);
  });
});
