import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { catalogue, readPins, selectTargets, type Release } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  expiredFiles,
  initKeys,
  isOutOfSupport,
  loadKeys,
  localDestination,
  plan,
  publish,
  readPublished,
  type PlannedExtension,
  type PublishKeys,
  type PublishResult,
} from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { listedNames } from './helpers/listed-names.ts';
import { trustOf } from './helpers/trust.ts';

const [stable, older, beta] = selectTargets('4593.2.5,4593.2.4,beta') as [Release, Release, Release];
// As if `older` and what came before it had left the catalogue.
const releases = catalogue().filter(({ number, channel }) => channel !== 'stable' || number === stable.number);
const demo: PlannedExtension = {
  name: 'demo',
  track: 'newest',
  pins: readPins(
    JSON.stringify(Object.fromEntries(['1.0.0', '1.1.0', '2.0.0'].map((version) => [version, { licenses: {}, bytes: {} }]))),
    'pins.json',
  ),
};
let dir: string;
let tree: string;
let keys: PublishKeys;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'retire-'));
  tree = join(dir, 'tree');
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  // 2.0.0 has nothing for beta: there, 1.1.0 is the newest.
  await buildDemo(join(dir, '1.0.0'), { version: '1.0.0', targets: ['portable', stable, older, beta] });
  await buildDemo(join(dir, '1.1.0'), { version: '1.1.0', targets: ['portable', stable, beta] });
  await buildDemo(join(dir, '1.2.0'), { version: '1.2.0', targets: ['portable'] });
  await buildDemo(join(dir, '2.0.0'), { version: '2.0.0', targets: ['portable', stable] });
  await buildDemo(join(dir, '2.0.1'), { version: '2.0.1', targets: ['portable'] });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const into = (versions: readonly string[], more: object = {}): Promise<PublishResult> =>
  publish({
    paths: versions.map((version) => join(dir, version)),
    destination: localDestination(tree),
    keys,
    baseUrl: 'https://one.example.org',
    unsigned: true,
    ...more,
  });
const retire = { retire: { releases, extensions: [demo] } };

/** What a node finds in a folder: names of its sums, whose signature is good; those whose files are there are whole. */
async function listed(folder: string): Promise<string[]> {
  const cwd = join(tree, folder);
  execFileSync('gpgv', ['--quiet', '--keyring', join(tree, 'keys/import-pubring.gpg'), 'SHA256SUMS.gpg', 'SHA256SUMS'], {
    cwd,
    stdio: 'pipe',
  });
  const text = await readFile(join(cwd, 'SHA256SUMS'), 'utf8');
  if (text !== '') execFileSync('sha256sum', ['--check', '--strict', '--quiet', '--ignore-missing', 'SHA256SUMS'], { cwd, stdio: 'pipe' });
  return listedNames(text);
}
const indexed = async (): Promise<string[]> => {
  const index = await (await readPublished(localDestination(tree), trustOf(keys))).extension('demo');
  return (index?.versions ?? []).map(({ version, images }) => `${version}: ${images.map(({ target }) => target).join(' ')}`);
};

test('a release is out of support when newer ones took its place, and not when it is only unknown', () => {
  const known = ['4790.0.0', '4757.1.0', '4593.2.5', '4593.2.4', '4081.3.10', '4081.3.9'].map((number): Release => ({ ...stable, number }));
  const old = (number: string): boolean => isOutOfSupport(number, known);
  expect(['4593.2.3', '4459.2.4', '4081.3.8', '3510.3.6', '4700.0.0', '4722.1.0'].filter((number) => !old(number))).toEqual([]);
  // Listed, newer than what is listed, of a channel's next major, of a channel that is not listed at all.
  expect(['4593.2.5', '4593.2.4', '4593.2.6', '4757.2.0', '4081.3.11', '4593.3.0', '4800.0.0', '4757.4.0'].filter(old)).toEqual([]);
  expect(isOutOfSupport('1.2.3', [])).toBe(false);
});

test('what is too old leaves index and sums first and its files later; what a supported release needs stays', async () => {
  await into(['1.0.0', '1.1.0', '1.2.0', '2.0.0']);
  expect((await readPublished(localDestination(tree), trustOf(keys)).then((one) => one.packages())).map(({ release }) => release)).toEqual([
    older.number,
    stable.number,
    beta.number,
  ]);

  const expired = await expiredFiles(await readPublished(localDestination(tree), trustOf(keys)), retire.retire);
  const result = await into([], retire);
  expect(expired.map(({ path }) => path).toSorted()).toEqual(result.retired.toSorted());
  expect(new Set(expired.map(({ why }) => why))).toEqual(
    new Set([
      `Flatcar ${older.number} is out of support`,
      '1.0.0 is older than all kept branches',
      '1.1.0 is older than all kept branches',
    ]),
  );
  expect(result.retired.toSorted()).toEqual(
    [
      `amd64-usr/${older.number}/flatcar-demo.gz`,
      `amd64-usr/${older.number}/flatcar-demo.raw`,
      `demo/${stable.number}/demo.${stable.number}_1.0.0_x86-64.raw`,
      `demo/${older.number}/demo.${older.number}_1.0.0_x86-64.raw`,
      `demo/${beta.number}/demo.${beta.number}_1.0.0_x86-64.raw`,
      'demo/portable/demo.portable_1.0.0_x86-64.raw',
      'demo/portable/demo.portable_1.1.0_x86-64.raw',
      `demo/${stable.number}/demo.${stable.number}_1.1.0_x86-64.raw`,
    ].toSorted(),
  );
  // 1.2.0 is the newest below what is kept; 1.1.0 has what beta has newest; names stay.
  expect(await indexed()).toEqual([`2.0.0: portable ${stable.number}`, '1.2.0: portable', `1.1.0: ${beta.number}`, '1.0.0: ']);
  expect(await listed('demo/portable')).toEqual(['demo.portable_1.2.0_x86-64.raw', 'demo.portable_2.0.0_x86-64.raw']);
  expect(await listed(`demo/${beta.number}`)).toEqual([`demo.${beta.number}_1.1.0_x86-64.raw`]);
  expect(await listed(`demo/${older.number}`)).toEqual([]);
  expect(await listed(`amd64-usr/${older.number}`)).toEqual([]);
  expect(await listed(`amd64-usr/${stable.number}`)).toEqual(['flatcar-demo.gz', 'flatcar-demo.raw']);
  for (const path of result.retired) expect(existsSync(join(tree, path)), path).toBe(true);
  expect(existsSync(join(tree, 'demo/transfer/portable/2.0.0.conf'))).toBe(true);

  // Again: nothing. What changes something takes the files away.
  expect(await into([], retire)).toMatchObject({ serial: 2, retired: [], signed: [] });
  expect(existsSync(join(tree, 'demo/portable/demo.portable_1.0.0_x86-64.raw'))).toBe(true);
  expect(await into(['2.0.1'])).toMatchObject({ serial: 3 });
  for (const path of result.retired) {
    expect(existsSync(join(tree, path)), path).toBe(false);
    expect(existsSync(join(tree, path.replace(/raw$/, 'spdx.json'))), path).toBe(false);
  }
  expect(existsSync(join(tree, 'demo/transfer/portable/1.0.0.conf'))).toBe(false);
  expect(await listed('demo/portable')).toEqual([
    'demo.portable_1.2.0_x86-64.raw',
    'demo.portable_2.0.0_x86-64.raw',
    'demo.portable_2.0.1_x86-64.raw',
  ]);
  const published = await readPublished(localDestination(tree), trustOf(keys));
  for (const { images } of (await published.extension('demo'))?.versions ?? [])
    for (const { path } of images) expect(existsSync(join(tree, path)), path).toBe(true);
});

test('a retired name is not given to other bytes; the same come back, and are not taken away by what was due', async () => {
  await buildDemo(join(dir, 'other'), { version: '1.0.0', targets: ['portable'], says: 'something else' });
  await expect(into(['other'])).rejects.toThrow('published with other bytes');
  tree = join(dir, 'second');
  await into(['1.0.0', '1.1.0', '2.0.0']);
  expect((await into([], retire)).retired).toContain('demo/portable/demo.portable_1.0.0_x86-64.raw');
  // A plan that wants it again builds it: nothing is left to bind it from.
  const published = await readPublished(localDestination(tree), trustOf(keys));
  const only = readPins(JSON.stringify({ '1.0.0': { licenses: {}, bytes: {} } }), 'pins.json');
  expect((await plan([{ ...demo, pins: only }], ['portable'], published, ['x86-64'])).images).toMatchObject([
    { version: '1.0.0', from: 'build' },
  ]);
  await into(['1.0.0']);
  await into(['2.0.1']);
  expect(await listed('demo/portable')).toContain('demo.portable_1.0.0_x86-64.raw');
  expect(existsSync(join(tree, 'demo/portable/demo.portable_1.0.0_x86-64.spdx.json'))).toBe(true);
});
