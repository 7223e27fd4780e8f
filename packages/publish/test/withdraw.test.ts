import { execFileSync } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bindTargets, hashFile, openStore, openTools, selectTargets, unpackImage, type Release, type Target } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  initKeys,
  loadKeys,
  localDestination,
  mirror,
  openTree,
  publish,
  readPublished,
  restorePayload,
  withdraw,
  type PublishKeys,
} from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { listedNames } from './helpers/listed-names.ts';
import { trustOf } from './helpers/trust.ts';

const store = openStore();
const [stable, older, beta] = selectTargets('4593.2.5,4593.2.4,beta') as [Release, Release, Release];
const targets: Target[] = ['portable', stable, beta];
let dir: string;
let tree: string;
let keys: PublishKeys;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'withdraw-'));
  tree = join(dir, 'tree');
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  for (const [name, version] of [
    ['demo', '1.0.0'],
    ['demo', '1.0.1'],
    ['other', '3.0'],
  ] as const)
    await buildDemo(join(dir, `${name}-${version}`), { name, version, targets });
  await publish({
    paths: ['demo-1.0.0', 'demo-1.0.1', 'other-3.0'].map((name) => join(dir, name)),
    destination: localDestination(tree),
    keys,
    unsigned: true,
    baseUrl: 'https://one.example.org',
  });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const sumsIn = async (root: string, folder: string): Promise<string[]> => {
  execFileSync('gpgv', ['--quiet', '--keyring', join(root, 'keys/import-pubring.gpg'), 'SHA256SUMS.gpg', 'SHA256SUMS'], {
    cwd: join(root, folder),
    stdio: 'pipe',
  });
  execFileSync('sha256sum', ['--check', '--strict', '--quiet', '--ignore-missing', 'SHA256SUMS'], {
    cwd: join(root, folder),
    stdio: 'pipe',
  });
  return listedNames(await readFile(join(root, folder, 'SHA256SUMS'), 'utf8'));
};

test('one more release is bound from the published tree, with the same bytes as from the build', async () => {
  const published = await readPublished(openTree(tree, store), trustOf(keys));
  const index = await published.extension('demo');
  if (index === undefined) throw new Error('demo is published');
  const [beta2] = selectTargets('alpha') as [Release];
  for (const [target, format] of [
    [older, 'squashfs'],
    [beta2, 'ddi'],
  ] as const) {
    const { payload, file } = await restorePayload(openTree(tree, store), index, { version: '1.0.1', arch: 'x86-64', format }, dir);
    const [image] = await bindTargets(payload, file, [target], {
      out: join(dir, 'bound'),
      store,
      tools: openTools(store),
      report: () => undefined,
    });
    const [built] = await buildDemo(join(dir, 'again'), { version: '1.0.1', targets: [target] });
    expect(image?.sha256).toBe(built?.images[0]?.sha256);
    const result = await publish({
      paths: [join(dir, 'bound')],
      destination: localDestination(tree),
      keys,
      unsigned: true,
    });
    expect(result.added.at(-1)).toBe(`demo/${target.number}/demo.${target.number}_1.0.1_x86-64.raw`);
  }
});

test('a mirror has what was asked for, checked, and its own URL in transfer files; running it again adds what is new', async () => {
  const to = join(dir, 'mirror');
  const copy = (): ReturnType<typeof mirror> =>
    mirror({
      tree: openTree(tree, store),
      destination: localDestination(to),
      trust: trustOf(keys),
      baseUrl: 'http://mirror.lan',
      extensions: ['demo'],
      targets: [stable.number],
    });
  expect((await copy()).images).toHaveLength(2);
  expect(await sumsIn(to, `demo/${stable.number}`)).toEqual(['demo.4593.2.5_1.0.0_x86-64.raw', 'demo.4593.2.5_1.0.1_x86-64.raw']);
  expect(await readFile(join(to, 'demo/transfer/release/latest.conf'), 'utf8')).toContain('Path=http://mirror.lan/demo/%w/');
  expect((await readdir(to)).filter((name) => !name.startsWith('.'))).not.toContain('other');
  // The index is the publisher's own, and whoever has the keyring can read the mirror as the tree.
  const published = await readPublished(openTree(to, store), trustOf(keys));
  expect((await published.extension('demo'))?.versions.map(({ version }) => version)).toEqual(['1.0.1', '1.0.0']);
  const before = await hashFile(join(to, 'index.json'));
  await copy();
  expect(await hashFile(join(to, 'index.json'))).toBe(before);
});

test('a mirror refuses a tampered image, a tampered index and a foreign key, and leaves nothing listed', async () => {
  const to = join(dir, 'mirror2');
  const copyOf = (from: string, trust = trustOf(keys)): Promise<unknown> =>
    mirror({
      tree: openTree(from, store),
      destination: localDestination(to),
      trust,
      baseUrl: 'http://mirror.lan',
      extensions: ['demo'],
      targets: [stable.number],
    });
  const bad = join(dir, 'bad');
  await cp(tree, bad, { recursive: true, verbatimSymlinks: true });
  const image = join(bad, `demo/${stable.number}/demo.4593.2.5_1.0.1_x86-64.raw`);
  const bytes = await readFile(image);
  bytes[5000] = (bytes[5000] ?? 0) ^ 1;
  await rm(image);
  await writeFile(image, bytes);
  await expect(copyOf(bad)).rejects.toThrow('the file does not match the signed index');
  await initKeys(join(dir, 'foreign'));
  await expect(copyOf(tree, trustOf(await loadKeys(join(dir, 'foreign'), {})))).rejects.toMatchObject({ code: 'bad-signature' });
  for (const name of (await readdir(bad)).filter((one) => one.endsWith('.index.json'))) {
    const index = await readFile(join(bad, name), 'utf8');
    await rm(join(bad, name));
    await writeFile(join(bad, name), index.replace('"serial":', '"serial":1'));
  }
  await expect(copyOf(bad)).rejects.toThrow('the file is larger than');
  expect((await readdir(to)).filter((name) => name.startsWith('index'))).toEqual([]);
});

test('a withdrawn version is followed by a higher revision with the content of another, for every target', async () => {
  const destination = localDestination(tree);
  const ask = {
    name: 'demo',
    reason: 'it eats data',
    tree: destination.tree(store),
    destination,
    keys,
    unsigned: true,
    store,
    report: () => undefined,
  };
  await expect(withdraw({ ...ask, version: '9.9', content: '1.0.0' })).rejects.toThrow('demo 9.9 is not published');
  await expect(withdraw({ ...ask, version: '1.0.1', content: '1.0.1' })).rejects.toThrow('demo 1.0.1 cannot replace 1.0.1');
  const result = await withdraw({ ...ask, version: '1.0.1', content: '1.0.0' });
  expect(result.version).toBe('1.0.1-1');
  expect(await sumsIn(tree, `demo/${stable.number}`)).toEqual(['demo.4593.2.5_1.0.0_x86-64.raw', 'demo.4593.2.5_1.0.1-1_x86-64.raw']);
  expect(await sumsIn(tree, `demo/${beta.number}`)).toEqual([
    `demo.${beta.number}_1.0.0_x86-64.raw`,
    `demo.${beta.number}_1.0.1-1_x86-64.raw`,
  ]);
  const published = await readPublished(destination, trustOf(keys));
  expect(published.index?.extensions.find(({ name }) => name === 'demo')?.newest).toBe('1.0.1-1');
  const index = await published.extension('demo');
  expect(index?.versions.find(({ version }) => version === '1.0.1')?.withdrawn).toEqual({
    reason: 'it eats data',
    by: '1.0.1-1',
    date: expect.stringMatching(/^\d{4}-\d\d-\d\d$/) as string,
  });
  // The old content under the new name.
  const out = join(dir, 'unpacked');
  await unpackImage(openTools(store), join(tree, `demo/${stable.number}/demo.4593.2.5_1.0.1-1_x86-64.raw`), 'squashfs', 'x86-64', out);
  expect(await readFile(join(out, 'usr/bin/demo'), 'utf8')).toContain('demo 1.0.0');
  expect(await readFile(join(out, 'usr/lib/extension-release.d/extension-release.demo'), 'utf8')).toContain('SYSEXT_VERSION_ID=1.0.1-1');
  // Killed after its last step, or asked for twice: it is done.
  expect(await withdraw({ ...ask, version: '1.0.1', content: '1.0.0' })).toMatchObject({ version: '1.0.1-1', added: [] });
});

test('of two who withdraw at once both end well, and the tree has one replacement', async () => {
  const place = join(dir, 'twice');
  await publish({
    paths: [join(dir, 'demo-1.0.0'), join(dir, 'demo-1.0.1')],
    destination: localDestination(place),
    keys,
    unsigned: true,
    baseUrl: 'https://one.example.org',
  });
  const destination = localDestination(place);
  const ask = {
    name: 'demo',
    version: '1.0.1',
    content: '1.0.0',
    reason: 'x',
    tree: destination.tree(store),
    destination,
    keys,
    unsigned: true,
    store,
    report: () => undefined,
  };
  const results = await Promise.all([withdraw(ask), withdraw(ask)]);
  expect(results.map(({ version }) => version)).toEqual(['1.0.1-1', '1.0.1-1']);
  const index = await (await readPublished(destination, trustOf(keys))).extension('demo');
  expect(index?.versions.map(({ version }) => version)).toEqual(['1.0.1-1', '1.0.1', '1.0.0']);
  // The transfer file of the withdrawn version is gone, and no link leads nowhere.
  expect(await readdir(join(place, 'demo/transfer/portable'))).not.toContain('1.0.1.conf');
  expect(execFileSync('find', [place, '-xtype', 'l'], { encoding: 'utf8' })).toBe('');
  // A link that an earlier version of this program left.
  await symlink('.current/9.9.conf', join(place, 'demo/transfer/portable/9.9.conf'));
  await publish({ paths: [join(dir, 'other-3.0')], destination, keys, unsigned: true });
  expect(execFileSync('find', [place, '-xtype', 'l'], { encoding: 'utf8' })).toBe('');
});
