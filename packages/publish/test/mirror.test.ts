// What a mirror has beside the images that were asked for, and what leaves it.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashFile, openStore, selectTargets, type Release } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  initKeys,
  loadKeys,
  localDestination,
  mirror,
  openTree,
  publish,
  readPublished,
  type MirrorResult,
  type PublishKeys,
  type PublishOptions,
} from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { trustOf } from './helpers/trust.ts';

const [stable] = selectTargets('4593.2.5') as [Release];
let dir: string;
let keys: PublishKeys;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mirror-'));
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  for (const version of ['1.0.0', '1.0.1']) await buildDemo(join(dir, version), { version, targets: ['portable', stable] });
  await buildDemo(join(dir, 'other'), { name: 'other', version: '2.0', targets: ['portable'] });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const into = (names: readonly string[], more: Partial<PublishOptions> = {}): Promise<unknown> =>
  publish({
    paths: names.map((name) => join(dir, name)),
    destination: localDestination(join(dir, 'tree')),
    keys,
    baseUrl: 'https://one.example.org',
    ...more,
  });
const copy = (extensions?: readonly string[]): Promise<MirrorResult> =>
  mirror({
    tree: openTree(join(dir, 'tree'), openStore()),
    destination: localDestination(join(dir, 'copy')),
    trust: trustOf(keys),
    baseUrl: 'https://two.example.org',
    extensions,
  });
const files = async (): Promise<string[]> => (await readdir(join(dir, 'copy'), { recursive: true })).toSorted();

test('a mirror has the official layout, loses what left the tree, and keeps what was not asked for this time', async () => {
  await into(['1.0.0', 'other']);
  await copy();
  const official = `amd64-usr/${stable.number}`;
  for (const name of ['flatcar-demo.raw', 'flatcar-demo.gz', 'SHA256SUMS', 'SHA256SUMS.gpg'])
    expect(await hashFile(join(dir, 'copy', official, name)), name).toBe(await hashFile(join(dir, 'tree', official, name)));
  const before = await files();
  const former = before.find((name) => /^[0-9a-f]{64}\.index\.json$/.test(name)) ?? '';
  expect(before).toContain('demo/portable/demo.portable_1.0.0_x86-64.raw');

  await into(['1.0.1'], { withdraw: { name: 'demo', version: '1.0.0', reason: 'it is broken', by: '1.0.1' } });
  await copy(['demo']);
  const after = await files();
  expect(after.filter((name) => /_1\.0\.0_.*\.(?:raw|json)$/.test(name))).toEqual([]);
  expect(after).toContain('demo/portable/demo.portable_1.0.1_x86-64.raw');
  expect(after).toContain('other/portable/other.portable_2.0_x86-64.raw');
  expect(after).not.toContain(former);
  expect(after.filter((name) => /^metadata\/\d+\.(?:targets|snapshot)\.json$/.test(name))).toHaveLength(2);
  const published = await readPublished(openTree(join(dir, 'copy'), openStore()), trustOf(keys));
  expect(published.index?.serial).toBe(2);
  expect(await readFile(join(dir, 'copy/index.json'))).toEqual(await readFile(join(dir, 'tree/index.json')));
});

test('a mirror of one tree does not become a mirror of another', async () => {
  await initKeys(join(dir, 'others'));
  const others = await loadKeys(join(dir, 'others'), {});
  const tree = join(dir, 'foreign');
  await publish({ paths: [join(dir, 'other')], destination: localDestination(tree), keys: others, baseUrl: 'https://one.example.org' });
  const before = await files();
  await expect(
    mirror({
      tree: openTree(tree, openStore()),
      destination: localDestination(join(dir, 'copy')),
      trust: trustOf(others),
      baseUrl: 'https://two.example.org',
    }),
  ).rejects.toThrow('this is a mirror of another tree');
  expect(await files()).toEqual(before);
});
