// What a node makes of an old image and a delta is an image that systemd merges.
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linkName, openStore, openTools, selectTargets, type Release } from '@flatcar/core/engine';
import { mergeTest, withHost } from '@flatcar/testing';
import { afterAll, beforeAll, expect } from 'vitest';
import { applyBlockList, parseBlockList } from '../src/deltas/block-list.ts';
import { applyPatch } from '../src/deltas/zstd-patch.ts';
import { initKeys, loadKeys, localDestination, publish, readPublished } from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { trustOf } from './helpers/trust.ts';

const store = openStore();
const [stable, older] = selectTargets('4593.2.5,4593.2.4') as [Release, Release];
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'deltas-merge-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

mergeTest('an image made by a block list, and one made of it by a patch, are merged', async () => {
  const tree = join(dir, 'tree');
  await initKeys(join(dir, 'keys'));
  const keys = await loadKeys(join(dir, 'keys'), {});
  for (const [version, targets] of [
    ['1.0.0', [older, stable]],
    ['1.0.1', [stable]],
  ] as const) {
    await buildDemo(join(dir, version), { version, targets });
    const how = { destination: localDestination(tree), keys, baseUrl: 'https://one.example.org', unsigned: true, store };
    await publish({ ...how, paths: [join(dir, version)] });
  }
  const index = await (await readPublished(localDestination(tree), trustOf(keys))).extension('demo');
  const imageOf = (version: string, target: string) =>
    index?.versions.find((one) => one.version === version)?.images.find((one) => one.target === target);
  const [old, next, newest] = [imageOf('1.0.0', older.number), imageOf('1.0.0', stable.number), imageOf('1.0.1', stable.number)];
  const blocks = next?.deltas?.find(({ kind, from }) => kind === 'blocks' && from === old?.sha256)?.path ?? 'no block list';
  const patch = newest?.deltas?.find(({ kind, from }) => kind === 'zstd' && from === next?.sha256)?.path ?? 'no patch';

  const [bound, updated] = [join(dir, 'bound.raw'), join(dir, 'updated.raw')];
  const out = await open(bound, 'w');
  const list = parseBlockList(await readFile(join(tree, blocks)), blocks);
  await applyBlockList(join(tree, old?.path ?? ''), list, (chunk) => out.writeFile(chunk));
  await out.close();
  await applyPatch(openTools(store), bound, join(tree, patch), updated);

  await withHost({ release: stable.number }, async (host) => {
    const link = linkName('demo', stable);
    // The control: the old image is for another release.
    for (const [image, says] of [
      [join(tree, old?.path ?? ''), undefined],
      [bound, 'demo 1.0.0'],
      [updated, 'demo 1.0.1'],
    ] as const) {
      await host.install(image, link);
      await host.merge();
      expect(await host.exists('/usr/bin/demo')).toBe(says !== undefined);
      if (says !== undefined) expect(await host.run(['/usr/bin/demo'])).toBe(says);
      await host.unmerge();
    }
  });
});
