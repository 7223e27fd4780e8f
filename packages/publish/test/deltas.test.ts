// Deltas of a tree: made by publish, listed by the index, copied by mirror, removed by retire and withdraw; each makes exactly its image.
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { catalogue, hashFile, openStore, openTools, readPins, selectTargets, type Release, type Target } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { applyBlockList, parseBlockList } from '../src/deltas/block-list.ts';
import { formerReleases } from '../src/deltas/choose.ts';
import { applyPatch, canPatch, makePatch } from '../src/deltas/zstd-patch.ts';
import {
  initKeys,
  loadKeys,
  localDestination,
  mirror,
  openTree,
  publish,
  readPublished,
  withdraw,
  type ExtensionIndex,
  type PublishedImage,
  type PublishKeys,
  type PublishResult,
} from '../src/index.ts';
import { trustOf } from './helpers/trust.ts';
import { buildDemo } from './helpers/demo.ts';

const store = openStore();
const tools = openTools(store);
const [stable, older, beta] = selectTargets('4593.2.5,4593.2.4,beta') as [Release, Release, Release];
const [alpha] = selectTargets('alpha') as [Release];
const baseUrl = 'https://one.example.org';
let dir: string;
let tree: string;
let keys: PublishKeys;
let trees = 0;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'deltas-'));
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  const build = (out: string, version: string, targets: readonly Target[]): Promise<unknown> =>
    buildDemo(join(dir, out), { version, targets });
  await build('old', '1.0.0', ['portable', older, beta]);
  await build('next release', '1.0.0', [stable, alpha]);
  await build('next version', '1.0.1', ['portable', older, stable, beta]);
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(() => {
  trees += 1;
  tree = join(dir, `tree${trees}`);
});

const into = (folders: readonly string[], more: object = {}): Promise<PublishResult> =>
  publish({
    paths: folders.map((name) => join(dir, name)),
    destination: localDestination(tree),
    keys,
    baseUrl,
    unsigned: true,
    store,
    ...more,
  });

async function demoIndex(root = tree): Promise<ExtensionIndex> {
  const index = await (await readPublished(localDestination(root), trustOf(keys))).extension('demo');
  if (index === undefined) throw new Error('demo is published');
  return index;
}
const imagesOf = (index: ExtensionIndex): PublishedImage[] => index.versions.flatMap(({ images }) => images);

/** What each image can be made of, as `version target: kind from version target`; every delta is applied and its result compared. */
async function deltasOf(root = tree): Promise<string[]> {
  const { versions } = await demoIndex(root);
  const named = versions.flatMap(({ version, images }) => images.map((image) => ({ image, name: `${version} ${image.target}` })));
  const found: string[] = [];
  for (const { name, image } of named)
    for (const { kind, from, path, size, sha256 } of image.deltas ?? []) {
      const source = named.find((one) => one.image.sha256 === from);
      if (source === undefined) throw new Error(`${path} is for an image that is not published`);
      const [before, delta, out] = [join(root, source.image.path), join(root, path), join(dir, 'made')];
      const bytes = await readFile(delta);
      expect([bytes.length, await hashFile(delta)]).toEqual([size, sha256]);
      if (kind === 'zstd') await applyPatch(tools, before, delta, out);
      else {
        const chunks: Buffer[] = [];
        await applyBlockList(before, parseBlockList(bytes, path), (chunk) => void chunks.push(Buffer.from(chunk)));
        await writeFile(out, Buffer.concat(chunks));
      }
      expect(await hashFile(out), path).toBe(image.sha256);
      expect(size).toBeLessThan(image.size * 0.4);
      found.push(`${name}: ${kind} from ${source.name}`);
    }
  return found;
}
const files = async (root = tree): Promise<string[]> => (await readdir(join(root, 'demo/deltas')).catch(() => [])).toSorted();

test('one more release is reached from the former one and from other channels, in some hundred bytes or some kilobytes', async () => {
  await into(['old']);
  // 4593.2.4 is squashfs, and the current beta a disk image: nothing leads from one to the other.
  expect(await deltasOf()).toEqual([]);
  await into(['next release']);
  expect(await deltasOf()).toEqual([
    `1.0.0 ${stable.number}: blocks from 1.0.0 ${older.number}`,
    `1.0.0 ${alpha.number}: blocks from 1.0.0 ${beta.number}`,
  ]);
  const sizes = imagesOf(await demoIndex()).flatMap(({ format, deltas = [] }) => deltas.map(({ size }) => [format, size] as const));
  for (const [format, size] of sizes) expect(size).toBeLessThan(format === 'squashfs' ? 200 : 8192);
});

test('a new version is reached from the former one for the same target', async () => {
  await into(['old', 'next release']);
  await into(['next version']);
  expect((await deltasOf()).filter((line) => line.startsWith('1.0.1'))).toEqual([
    '1.0.1 portable: zstd from 1.0.0 portable',
    `1.0.1 ${older.number}: zstd from 1.0.0 ${older.number}`,
    `1.0.1 ${stable.number}: blocks from 1.0.1 ${older.number}`,
    `1.0.1 ${stable.number}: zstd from 1.0.0 ${stable.number}`,
    `1.0.1 ${beta.number}: zstd from 1.0.0 ${beta.number}`,
  ]);
});

test('what is published already gets no other deltas, and the tree does not change', async () => {
  await into(['old', 'next release', 'next version']);
  const before = await readFile(join(tree, 'index.json'), 'utf8');
  expect(await into(['old', 'next release', 'next version'])).toMatchObject({ serial: 1, added: [] });
  expect(await readFile(join(tree, 'index.json'), 'utf8')).toBe(before);
});

test('the same images have the same deltas wherever they are published', { tags: ['full'] }, async () => {
  await into(['old']);
  await into(['next release', 'next version']);
  const first = await files();
  tree = `${tree}-again`;
  await into(['old']);
  await into(['next release', 'next version']);
  expect(await files()).toEqual(first);
});

test('a mirror has the deltas of its images', async () => {
  await into(['old']);
  await into(['next release', 'next version']);
  const to = join(dir, 'mirror');
  await mirror({ tree: openTree(tree, store), destination: localDestination(to), trust: trustOf(keys), baseUrl });
  expect(await files(to)).toEqual(await files());
  expect(await deltasOf(to)).toEqual(await deltasOf());
});

test('a mirror refuses a delta that is not the one of the index', async () => {
  await into(['old', 'next release']);
  const [path] = imagesOf(await demoIndex()).flatMap(({ deltas = [] }) => deltas.map((delta) => delta.path));
  await writeFile(join(tree, path ?? ''), 'another delta');
  await expect(
    mirror({ tree: openTree(tree, store), destination: localDestination(join(dir, 'refused')), trust: trustOf(keys), baseUrl }),
  ).rejects.toThrow('the file does not match the signed index');
});

test('retire removes deltas to and from expired images; their files are removed one publish later', async () => {
  await into(['old', 'next release']);
  await into(['next version']);
  const before = await files();
  const demo = {
    name: 'demo',
    track: 'newest' as const,
    pins: readPins(JSON.stringify({ '1.0.0': { licenses: {}, bytes: {} }, '1.0.1': { licenses: {}, bytes: {} } }), 'pins.json'),
  };
  const releases = catalogue().filter(({ number, channel }) => channel !== 'stable' || number === stable.number);
  await into([], { retire: { releases, extensions: [demo] } });
  const left = await deltasOf();
  expect(left.length).toBeGreaterThan(0);
  expect(left.filter((line) => line.includes(older.number))).toEqual([]);
  // Readers of the former index still find them.
  expect(await files()).toEqual(before);
  await buildDemo(join(dir, 'later'), { version: '1.0.2', targets: ['portable'] });
  await into(['later']);
  const listed = imagesOf(await demoIndex()).flatMap(({ deltas = [] }) => deltas.map(({ path }) => path));
  expect((await files()).map((name) => `demo/deltas/${name}`)).toEqual([...new Set(listed)].toSorted());
});

test('withdraw removes deltas to the withdrawn version; those from it lead to its replacement', async () => {
  await into(['old', 'next release']);
  await into(['next version']);
  await withdraw({
    name: 'demo',
    version: '1.0.1',
    content: '1.0.0',
    reason: 'it crashes',
    tree: openTree(tree, store),
    destination: localDestination(tree),
    keys,
    store,
    unsigned: true,
    report: () => undefined,
  });
  const left = await deltasOf();
  expect(left.filter((line) => line.startsWith('1.0.1 '))).toEqual([]);
  expect(left).toContain('1.0.1-1 portable: zstd from 1.0.1 portable');
  expect(left).toContain('1.0.1-1 portable: zstd from 1.0.0 portable');
});

test('killed before the index is replaced, nothing lists the deltas; the next run completes them', async () => {
  await into(['old']);
  const publishOnce = join(import.meta.dirname, 'helpers/publish-once.ts');
  const run = promisify(execFile)(process.execPath, [publishOnce, tree, join(dir, 'keys'), join(dir, 'next release')], {
    env: { ...process.env, DIE_AT: 'index', WITH_DELTAS: '1' },
  });
  await expect(run).rejects.toMatchObject({ signal: 'SIGKILL' });
  expect((await files()).length).toBe(2);
  expect(await deltasOf()).toEqual([]);
  await into(['next release']);
  expect(await deltasOf()).toHaveLength(2);
  expect(await files()).toHaveLength(2);
});

test('a former image that is damaged costs its deltas, not the publish', async () => {
  await into(['old']);
  const damaged = imagesOf(await demoIndex()).find(({ target }) => target === older.number);
  await writeFile(join(tree, damaged?.path ?? ''), 'damaged');
  const notices: string[] = [];
  await into(['next release'], {
    report: (event: { type: string; text?: string }) => event.type === 'notice' && notices.push(event.text ?? ''),
  });
  expect(notices).toContain(`no deltas from ${damaged?.path}: the file does not match the signed index`);
  expect(await deltasOf()).toEqual([`1.0.0 ${alpha.number}: blocks from 1.0.0 ${beta.number}`]);
});

test('a patch that is too large is not kept', async () => {
  await buildDemo(join(dir, 'other'), { version: '2.0.0', targets: ['portable'], says: randomBytes(30_000).toString('hex') });
  await into(['old']);
  await into(['other']);
  expect(await deltasOf()).toEqual([]);
});

test('a patch is made once, and not of images that zstd cannot hold on a node', async () => {
  const [before, after] = [join(dir, 'before'), join(dir, 'after')];
  const text = randomBytes(30_000).toString('hex');
  await writeFile(before, text);
  await writeFile(after, `${text}!`);
  const image = async (file: string): Promise<{ file: string; sha256: string }> => ({ file, sha256: await hashFile(file) });
  const first = await makePatch({ store, tools }, await image(before), await image(after), 1000);
  const second = await makePatch(
    { store, tools: { ...tools, record: (tool) => tools.record(tool), run: () => Promise.reject(new Error('zstd was run again')) } },
    await image(before),
    await image(after),
    1000,
  );
  expect(second).toBe(first);
  expect(canPatch(2 ** 27 - 1, 1)).toBe(true);
  expect(canPatch(2 ** 27, 1)).toBe(false);
  expect(canPatch(0, 1)).toBe(false);
});

test('a block list leads from the two former releases of a channel and the newest of each other one', () => {
  const image = (target: string): PublishedImage =>
    ({ target, architecture: 'x86-64', format: 'ddi', sha256: target }) as unknown as PublishedImage;
  const all = ['portable', '4593.2.4', '4593.2.5', '4757.2.0', '4757.2.1', '4757.1.0', '4760.1.0', '4790.0.0', '4459.3.0'].map(image);
  const version = { images: [...all, { ...image('4757.2.1'), architecture: 'arm64', sha256: 'arm64' }] } as never;
  const from = (target: string): string[] => formerReleases(version, image(target)).map((one) => one.target);
  expect(from('4757.2.1').toSorted()).toEqual(['4459.3.0', '4593.2.5', '4757.2.0', '4760.1.0', '4790.0.0']);
  expect(from('4593.2.4').toSorted()).toEqual(['4459.3.0', '4760.1.0', '4790.0.0']);
  expect(from('portable')).toEqual([]);
});
