import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashFile, openStore, parseSums, selectTargets, type Release } from '@flatcar/core/engine';
import { execa } from 'execa';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  initKeys,
  loadKeys,
  localDestination,
  mirror,
  openTree,
  publish,
  readPublished,
  type PublishKeys,
  type PublishOptions,
  type PublishResult,
} from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { trustOf } from './helpers/trust.ts';

// What is under a name that nothing lists: of a publish that died, of a folder that is no tree, of a tree that lost its index.
const [stable] = selectTargets('4593.2.5') as [Release];
const HELPER = join(import.meta.dirname, 'helpers/publish-once.ts');
const baseUrl = 'https://one.example.org';
let dir: string;
let keys: PublishKeys;
let tree: string;
let trees = 0;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'unlisted-'));
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  await buildDemo(join(dir, 'base'), { name: 'base', version: '1.0.0', targets: ['portable'] });
  await buildDemo(join(dir, 'one'), { version: '1.0.0', targets: ['portable', stable] });
  await buildDemo(join(dir, 'other'), { version: '1.0.0', targets: ['portable', stable], says: 'something else' });
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(() => {
  trees += 1;
  tree = join(dir, `tree${trees}`);
});

const into = (names: readonly string[], more: Partial<PublishOptions> = {}): Promise<PublishResult> =>
  publish({ paths: names.map((name) => join(dir, name)), destination: localDestination(tree), keys, baseUrl, ...more });
/** Publishes in a process that is killed before it replaces something. */
async function killedAt(dieAt: string, name: string): Promise<void> {
  const { signal, stderr } = await execa(process.execPath, [HELPER, tree, join(dir, 'keys'), join(dir, name)], {
    reject: false,
    env: { DIE_AT: dieAt, TREE_URL: baseUrl },
  });
  expect(signal, stderr).toBe('SIGKILL');
}
const IMAGE = 'demo/portable/demo.portable_1.0.0_x86-64.raw';

test('what a dead publish left under a name that nothing lists is replaced by other bytes', async () => {
  await into(['base']);
  await killedAt('sums', 'one');
  const left = await hashFile(join(tree, IMAGE));
  expect(await readdir(join(tree, 'amd64-usr/4593.2.5'))).toEqual(['flatcar-demo.gz', 'flatcar-demo.raw']);
  await into(['other']);
  const sha256 = await hashFile(join(tree, IMAGE));
  expect(sha256).not.toBe(left);
  expect(parseSums(await readFile(join(tree, 'demo/portable/SHA256SUMS'), 'utf8'), tree).get('demo.portable_1.0.0_x86-64.raw')).toBe(
    sha256,
  );
  const index = await (await readPublished(openTree(tree, openStore()), trustOf(keys))).extension('demo');
  for (const { path, sha256: listed, manifest } of index?.versions[0]?.images ?? []) {
    expect(await hashFile(join(tree, path))).toBe(listed);
    expect(await hashFile(join(tree, path.replace(/raw$/, 'manifest.json')))).toBe(manifest);
  }
});

test('what sums list already keeps its bytes, also when the publish died before the index', async () => {
  await into(['base']);
  await killedAt('index', 'one');
  const left = await hashFile(join(tree, IMAGE));
  await expect(into(['other'])).rejects.toThrow('published with other bytes');
  expect(await hashFile(join(tree, IMAGE))).toBe(left);
  expect(await into(['one'])).toMatchObject({ serial: 2 });
});

test('a first publish that died is completed without a flag, at whatever it died', async () => {
  for (const dieAt of ['keys', 'sums', 'transfer', 'index', 'timestamp']) {
    tree = join(dir, `first-${dieAt}`);
    await killedAt(dieAt, 'one');
    expect(await into(['one']), dieAt).toMatchObject({ serial: 1 });
  }
});

test('a folder with other files, and a tree that lost its index, become a tree only when that is meant', async () => {
  await mkdir(tree);
  await writeFile(join(tree, 'thesis.txt'), 'x');
  await expect(into(['one'])).rejects.toMatchObject({
    message: expect.stringContaining('nothing is published here'),
    next: expect.stringContaining('--first-publish'),
  });
  expect(await readdir(tree)).toEqual(['thesis.txt']);
  await into(['one'], { firstPublish: true });
  expect(await into(['one'])).toMatchObject({ serial: 1, unchanged: 2 });
  // Said again, it does no harm.
  expect(await into(['base'], { firstPublish: true })).toMatchObject({ serial: 2 });
  await rm(join(tree, 'metadata/timestamp.json'));
  await expect(into(['one'])).rejects.toThrow('nothing is published here');
});

test('a mirror goes into an empty folder or a mirror, and never back by itself', async () => {
  const to = join(dir, `mirror${trees}`);
  const old = join(dir, `old${trees}`);
  const copy = (from: string, more: object = {}): ReturnType<typeof mirror> =>
    mirror({
      tree: openTree(from, openStore()),
      destination: localDestination(to),
      trust: trustOf(keys),
      baseUrl: 'https://mirror.example.org',
      ...more,
    });
  await into(['base']);
  await mirror({ tree: openTree(tree, openStore()), destination: localDestination(old), trust: trustOf(keys), baseUrl });
  await into(['one']);
  expect(await copy(tree)).toMatchObject({ serial: 2 });
  await expect(copy(old)).rejects.toMatchObject({ code: 'rolled-back' });
  expect((await readPublished(openTree(to, openStore()), trustOf(keys))).index?.serial).toBe(2);
  expect(await copy(old, { allowOlder: true })).toMatchObject({ serial: 1 });
  const other = join(dir, `documents${trees}`);
  await mkdir(other);
  await writeFile(join(other, 'thesis.txt'), 'x');
  await expect(
    mirror({ tree: openTree(tree, openStore()), destination: localDestination(other), trust: trustOf(keys), baseUrl }),
  ).rejects.toThrow('it is not a mirror');
  expect(await readdir(other)).toEqual(['thesis.txt']);
  // A tree without an index is no tree.
  await expect(copy(other)).rejects.toThrow('nothing is published here');
});

test('a mirror refuses a keyring that the index does not list', async () => {
  const to = join(dir, `mirror${trees}`);
  await into(['base']);
  await initKeys(join(dir, 'forger'));
  const forger = await loadKeys(join(dir, 'forger'), {});
  const { keyringOf } = await import('../src/keys/openpgp.ts');
  await writeFile(join(tree, 'keys/.current/import-pubring.gpg'), keyringOf([...keys.trusted, ...forger.trusted]));
  await expect(
    mirror({ tree: openTree(tree, openStore()), destination: localDestination(to), trust: trustOf(keys), baseUrl }),
  ).rejects.toMatchObject({ message: 'the file does not match the signed index', where: expect.stringContaining('pubring') as string });
});

test('a mirror takes the certificate and the update key as the signed index lists them, and none that a server made up', async () => {
  const to = join(dir, `mirror${trees}`);
  const copy = (): Promise<unknown> =>
    mirror({ tree: openTree(tree, openStore()), destination: localDestination(to), trust: trustOf(keys), baseUrl });
  await into(['base']);
  await copy();
  for (const name of ['roothash.crt', 'update-payload-key.pub.pem'])
    expect(await readFile(join(to, 'keys', name)), name).toEqual(await readFile(join(tree, 'keys', name)));
  await initKeys(join(dir, 'liar'));
  const liar = await loadKeys(join(dir, 'liar'), {});
  for (const [name, forged] of [
    ['roothash.crt', liar.certificate ?? ''],
    ['update-payload-key.pub.pem', await readFile(join(dir, 'liar/update/1.pub.pem'), 'utf8')],
  ] as const) {
    const file = join(tree, 'keys/.current', name);
    const own = await readFile(file);
    const before = await readFile(join(to, 'keys', name));
    await writeFile(file, forged);
    await expect(copy(), name).rejects.toMatchObject({
      message: 'the file does not match the signed index',
      where: expect.stringContaining(name) as string,
    });
    await rm(file);
    await expect(copy(), name).rejects.toThrow('the tree lacks a file that belongs to it');
    expect(await readFile(join(to, 'keys', name)), name).toEqual(before);
    await writeFile(file, own);
    await copy();
  }
  // Of a tree that has none, nothing is taken.
  tree = join(dir, `tree${trees}-bare`);
  const without: PublishKeys = { ...keys, update: [], certificate: undefined };
  await into(['base'], { keys: without, unsigned: true });
  await writeFile(join(tree, 'keys/.current/roothash.crt'), liar.certificate ?? '');
  await mirror({ tree: openTree(tree, openStore()), destination: localDestination(`${to}-bare`), trust: trustOf(keys), baseUrl });
  expect(await readdir(join(`${to}-bare`, 'keys'))).not.toContain('roothash.crt');
});

test('a publisher without a certificate vouches for none that somebody else has put there', async () => {
  await initKeys(join(dir, 'planter'));
  const { certificate: forged = '' } = await loadKeys(join(dir, 'planter'), {});
  const without: PublishKeys = { ...keys, certificate: undefined };
  const file = join(tree, 'keys/roothash.crt');
  await into(['base']);
  // Replaced: nothing is signed over it, and who has the certificate puts it back.
  await writeFile(join(tree, 'keys/.current/roothash.crt'), forged);
  await expect(into(['one'], { keys: without })).rejects.toThrow('the file does not match the signed index');
  expect((await readPublished(openTree(tree, openStore()), trustOf(keys))).index?.serial).toBe(1);
  await into(['one']);
  expect(await readFile(file, 'utf8')).toBe(keys.certificate);
  // Planted into a tree that never had one: it leaves, and the publisher is told.
  tree = join(dir, `tree${trees}-planted`);
  await into(['base'], { keys: without });
  await writeFile(join(tree, 'keys/roothash.crt'), forged);
  const notices: string[] = [];
  await into(['one'], { keys: without, report: (event) => event.type === 'notice' && notices.push(event.text) });
  expect(notices.join()).toContain('roothash.crt is removed: no index lists it');
  await expect(readFile(join(tree, 'keys/roothash.crt'))).rejects.toThrow('ENOENT');
  expect((await readPublished(openTree(tree, openStore()), trustOf(keys))).index?.keys.map(({ path }) => path)).toEqual([
    'keys/import-pubring.gpg',
    'keys/update-payload-key.pub.pem',
  ]);
});

test.each([
  ['', 'is not known'],
  ['extensions.example.org', 'not a valid http(s) URL'],
  ['ftp://x', 'not a valid http(s) URL'],
  ['https://x/?y', 'not a valid http(s) URL'],
  ['https://', 'not a valid http(s) URL'],
])('a base URL %j is refused before anything is made', async (url, why) => {
  await expect(into(['one'], { baseUrl: url })).rejects.toThrow(why);
  expect(await readdir(dir)).not.toContain(`tree${trees}`);
});
