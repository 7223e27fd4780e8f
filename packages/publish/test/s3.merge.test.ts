// @module-tag full
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashFile, openStore, parseRef, selectTargets, type Release } from '@flatcar/core/engine';
import { AwsClient } from 'aws4fetch';
import { execa } from 'execa';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  initKeys,
  loadKeys,
  nodeConfig,
  openTree,
  publish,
  readPublished,
  s3Destination,
  withdraw,
  type Destination,
  type PublishKeys,
  type PublishResult,
} from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { sha256Of } from '../src/tree/digest.ts';
import { withBucket, type TestBucket } from '@flatcar/testing';
import { noMemory } from '../src/tree/memory.ts';
import { listedNames } from './helpers/listed-names.ts';
import { trustOf } from './helpers/trust.ts';

// A real S3 server, whose objects are files: what is served is looked at without the client that wrote it.
const [stable] = selectTargets('4593.2.5') as [Release];
let dir: string;
let keys: PublishKeys;
let bucket: TestBucket;
let stop: () => void;
let stopped: Promise<void>;
let prefix = 0;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 's3-'));
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
  for (const version of ['1.0.0', '1.0.1']) await buildDemo(join(dir, version), { version, targets: ['portable', stable] });
  await buildDemo(join(dir, '2.0.0'), { version: '2.0.0', targets: ['portable'] });
  await buildDemo(join(dir, 'other-name'), { name: 'other', version: '1.0.0', targets: ['portable'] });
  await buildDemo(join(dir, 'other'), { version: '1.0.0', targets: ['portable'], says: 'something else' });
  await new Promise<void>((resolve, reject) => {
    stopped = withBucket(join(dir, 's3'), async (one) => {
      bucket = one;
      await new Promise<void>((end) => {
        stop = end;
        resolve();
      });
    });
    stopped.catch(reject);
  });
});
afterAll(async () => {
  stop();
  await stopped;
  await rm(dir, { recursive: true, force: true });
});
beforeEach(() => {
  prefix += 1;
});

const destination = (): Destination => s3Destination(`s3://bucket/tree${prefix}`, bucket.env);
const into = (...versions: string[]): Promise<PublishResult> =>
  publish({
    paths: versions.map((version) => join(dir, version)),
    destination: destination(),
    keys,
    baseUrl: 'https://one.example.org',
    firstPublish: true,
  });
const at = (path: string): string => join(bucket.dir, `tree${prefix}`, path);
function names(folder: string): string[] {
  execFileSync('gpgv', ['--quiet', '--keyring', at('keys/import-pubring.gpg'), 'SHA256SUMS.gpg', 'SHA256SUMS'], {
    cwd: at(folder),
    stdio: 'pipe',
  });
  execFileSync('sha256sum', ['--check', '--strict', '--quiet', '--ignore-missing', 'SHA256SUMS'], { cwd: at(folder), stdio: 'pipe' });
  return listedNames(readFileSync(join(at(folder), 'SHA256SUMS'), 'utf8'));
}

test('publishes, leaves alone what is there, adds what is new, and refuses other bytes', async () => {
  expect(await into('1.0.0')).toMatchObject({ serial: 1, unchanged: 0 });
  expect(names('demo/4593.2.5')).toEqual(['demo.4593.2.5_1.0.0_x86-64.raw']);
  expect(names('amd64-usr/4593.2.5')).toEqual(['flatcar-demo.gz', 'flatcar-demo.raw']);
  expect(await into('1.0.0')).toMatchObject({ serial: 1, added: [], signed: [] });
  expect(await into('1.0.1')).toMatchObject({ serial: 2 });
  expect(names('demo/4593.2.5')).toEqual(['demo.4593.2.5_1.0.0_x86-64.raw', 'demo.4593.2.5_1.0.1_x86-64.raw']);
  await expect(into('other')).rejects.toThrow('published with other bytes');
  expect(names('demo/portable')).toEqual(['demo.portable_1.0.0_x86-64.raw', 'demo.portable_1.0.1_x86-64.raw']);
});

test('a name that an unfinished publish has taken with other bytes is refused, with the same bytes it is fine', async () => {
  const place = destination();
  const put = async (text: string): Promise<void> => {
    const file = join(dir, 'small');
    await writeFile(file, text);
    await place.put('demo/x.raw', file, { size: text.length, sha256: sha256Of(Buffer.from(text)) });
  };
  await put('one');
  await put('one');
  await expect(put('two')).rejects.toMatchObject({ code: 'name-taken' });
  expect(await readFile(at('demo/x.raw'), 'utf8')).toBe('one');
});

test('what another has replaced since it was read is not replaced', async () => {
  const [one, two] = [destination(), destination()];
  const text = (value: string): Map<string, Buffer> => new Map([['SHA256SUMS', Buffer.from(value)]]);
  expect(await one.read('demo/SHA256SUMS')).toBe(undefined);
  expect(await two.read('demo/SHA256SUMS')).toBe(undefined);
  await one.replace('demo', text('one'));
  await expect(two.replace('demo', text('two'))).rejects.toMatchObject({ code: 'conflict' });
  await two.publish(async () => two.replace('demo', text('two')));
  await expect(one.replace('demo', text('three'))).rejects.toMatchObject({ code: 'conflict' });
  expect(await readFile(at('demo/SHA256SUMS'), 'utf8')).toBe('two');
});

test('what another has replaced between two reads of this publish is not replaced: what is written follows from the first', async () => {
  const [one, two] = [destination(), destination()];
  const text = (value: string): Map<string, Buffer> => new Map([['SHA256SUMS', Buffer.from(value)]]);
  await one.replace('demo', text('one'));
  await two.publish(async () => {
    await two.read('demo/SHA256SUMS');
    await one.replace('demo', text('another'));
    await two.read('demo/SHA256SUMS');
    await expect(two.replace('demo', text('two'))).rejects.toMatchObject({ code: 'conflict' });
  });
  expect(await readFile(at('demo/SHA256SUMS'), 'utf8')).toBe('another');
});

// A publisher at work is overtaken by a whole publish before its n-th read of a file that others replace as well.
test.each(['metadata/timestamp.json', 'demo/portable/SHA256SUMS'])(
  'a publish that ends between two reads of %s is not undone',
  async (path) => {
    await into('1.0.0');
    let reads = 0;
    let isOvertaken = true;
    for (let nth = 1; isOvertaken; nth += 1) {
      prefix += 1;
      await into('1.0.0');
      reads = 0;
      isOvertaken = false;
      const slow = destination();
      const read = slow.read.bind(slow);
      slow.read = async (file) => {
        if (file === path) reads += 1;
        if (file === path && reads === nth && !isOvertaken) {
          isOvertaken = true;
          await into('1.0.1');
        }
        return read(file);
      };
      await publish({ paths: [join(dir, '2.0.0')], destination: slow, keys });
      if (!isOvertaken) continue;
      const published = await readPublished(destination(), trustOf(keys));
      const versions = (await published.extension('demo'))?.versions.map(({ version }) => version);
      expect(versions, `overtaken before read ${nth}`).toEqual(['2.0.0', '1.0.1', '1.0.0']);
      expect(names('demo/portable'), `overtaken before read ${nth}`).toHaveLength(3);
    }
    expect(reads).toBeGreaterThan(1);
  },
  240_000,
);

test('a bucket without an index becomes a tree only when that is meant', async () => {
  const ask = { paths: [join(dir, '1.0.0')], keys, baseUrl: 'https://one.example.org' };
  await expect(publish({ ...ask, destination: destination() })).rejects.toMatchObject({
    message: expect.stringContaining('nothing is published here'),
    next: expect.stringContaining('--first-publish'),
  });
  await into('1.0.0');
  expect(await publish({ ...ask, destination: destination() })).toMatchObject({ serial: 1, unchanged: 2 });
});

test('what a dead publish left is replaced when it is old, and may be of one at work until then', async () => {
  await into('1.0.1');
  const path = 'demo/portable/demo.portable_1.0.0_x86-64.raw';
  const text = 'of a publish that died';
  await writeFile(join(dir, 'left'), text);
  const about = { size: text.length, sha256: sha256Of(Buffer.from(text)) };
  await destination().put(path, join(dir, 'left'), about);
  await writeFile(join(dir, 'new'), 'new');
  const put = (): Promise<void> => destination().putOver(path, join(dir, 'new'), { size: 3, sha256: sha256Of(Buffer.from('new')) });
  await expect(put()).rejects.toThrow(/the file has other bytes, from a publish that is running or died \d+ s ago/);
  expect(await readFile(at(path), 'utf8')).toBe(text);
  const old = new Date(Date.now() - 16 * 60_000);
  await utimes(at(path), old, old);
  expect((await into('1.0.0')).added).toContain(path);
  expect(names('demo/portable')).toEqual(['demo.portable_1.0.0_x86-64.raw', 'demo.portable_1.0.1_x86-64.raw']);
});

test('a bucket that somebody turned back is refused by the publisher who knows better', async () => {
  await into('1.0.0');
  const before = await readFile(at('metadata/timestamp.json'));
  await into('1.0.1');
  await writeFile(at('metadata/timestamp.json'), before);
  await expect(into('2.0.0')).rejects.toMatchObject({ code: 'rolled-back' });
  expect((await readPublished(destination(), { ...trustOf(keys), memory: noMemory })).index?.serial).toBe(1);
});

test('six at once, versions of one extension and the first publish of the tree: all are published', async () => {
  const versions = ['3.0.0', '3.0.1', '3.0.2', '3.0.3', '3.0.4', '3.0.5'];
  for (const version of versions) await buildDemo(join(dir, version), { version, targets: ['portable', stable] });
  const results = await Promise.all(versions.map((version) => into(version)));
  for (const [index, { added }] of results.entries()) expect(added.length, versions[index]).toBe(2);
  expect(names('demo/portable')).toEqual(versions.map((version) => `demo.portable_${version}_x86-64.raw`));
  expect(names('demo/4593.2.5')).toHaveLength(6);
  expect(names('amd64-usr/4593.2.5')).toEqual(['flatcar-demo.gz', 'flatcar-demo.raw']);
  const published = await readPublished(destination(), trustOf(keys));
  const index = await published.extension('demo');
  expect(index?.versions.map(({ version }) => version)).toEqual(versions.toReversed());
  for (const { images } of index?.versions ?? []) for (const { path, sha256 } of images) expect(await hashFile(at(path))).toBe(sha256);
  for (const { path, sha256 } of await published.packages()) expect(await hashFile(at(path))).toBe(sha256);
});

test('a version with a plus sign is fetched by the URL that Ignition has, and by the name that sums have', async () => {
  await buildDemo(join(dir, 'plus'), { name: 'k3s', version: '1.33.1+k3s1', targets: ['portable', stable] });
  await into('plus');
  expect(names('k3s/portable')).toEqual(['k3s.portable_1.33.1+k3s1_x86-64.raw']);
  const { AWS_ENDPOINT_URL: endpoint = '', AWS_ACCESS_KEY_ID: accessKeyId = '', AWS_SECRET_ACCESS_KEY: secretAccessKey = '' } = bucket.env;
  const client = new AwsClient({ accessKeyId, secretAccessKey, service: 's3', region: 'us-east-1' });
  const policy = {
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Principal: '*', Action: ['s3:GetObject'], Resource: ['arn:aws:s3:::bucket/*'] }],
  };
  expect((await client.fetch(`${endpoint}/bucket?policy`, { method: 'PUT', body: JSON.stringify(policy) })).status).toBeLessThan(300);
  const baseUrl = `${endpoint}/bucket/tree${prefix}`;
  const published = await readPublished(openTree(baseUrl, openStore()), trustOf(keys));
  const { config } = await nodeConfig(
    { wanted: [parseRef('k3s@1.33')], targets: ['portable'], arch: 'x86-64', baseUrl, minimal: true, stager: false },
    (name) => published.extension(name),
    Buffer.alloc(0),
  );
  const [file] = config.files;
  const source = file !== undefined && 'source' in file.contents ? file.contents.source : '';
  expect(source).toBe(`${baseUrl}/k3s/portable/k3s.portable_1.33.1%2Bk3s1_x86-64.raw`);
  const sha256 = await hashFile(at('k3s/portable/k3s.portable_1.33.1+k3s1_x86-64.raw'));
  // The last as S3 reads a plus sign that is not written as %2B.
  for (const url of [source, source.replace('%2B', '+'), source.replace('%2B', '%20')])
    expect(sha256Of(Buffer.from(await (await fetch(url)).arrayBuffer())), url).toBe(sha256);
  // Our own client, too; and what is bound from it.
  const image = (await published.extension('k3s'))?.versions[0]?.images.find(({ target }) => target === 'portable');
  expect(await hashFile(await openTree(baseUrl, openStore()).file(image?.path ?? '', { size: image?.size ?? 0, sha256 }))).toBe(sha256);
});

test('plan, butane, ignition, bind, mirror and retire read a bucket, and mirror writes one', async () => {
  await into('1.0.0');
  const from = `s3://bucket/tree${prefix}`;
  const program = join(import.meta.dirname, '../../cli/bin/flatcar-ext');
  const run = async (...args: string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await execa(program, args, { reject: false, env: bucket.env, cwd: dir });
    expect(exitCode, stderr).toBe(0);
    return stdout;
  };
  const keysDir = ['--keys', join(dir, 'keys')];
  expect(await run('plan', 'yq', '--tree', from, ...keysDir, '--release', 'portable')).toContain('(index 1)');
  for (const form of ['butane', 'ignition'])
    expect(
      await run(form, 'demo', '--release', '4593.2.5', '--arch', 'x86-64', '--base-url', 'https://one.example.org', '--tree', from),
    ).toContain('https://one.example.org/demo/4593.2.5/');
  expect(await run('bind', 'demo', '--tree', from, ...keysDir, '--release', '4593.2.4', '--out', join(dir, 'bound'))).toContain(
    'demo.4593.2.4_1.0.0_x86-64.raw',
  );
  expect(await run('retire', '--tree', from, '--dry-run', ...keysDir)).toContain('0 files would be removed');
  const mirrored = `s3://bucket/mirror${prefix}`;
  expect(await run('mirror', '--to', mirrored, '--tree', from, ...keysDir, '--base-url', 'https://two.example.org')).toContain('2 images');
  expect(
    await run('mirror', '--to', join(dir, 'copy'), '--tree', mirrored, ...keysDir, '--base-url', 'https://three.example.org'),
  ).toContain('2 images');
  expect(await readFile(join(dir, 'copy/demo/transfer/portable/latest.conf'), 'utf8')).toContain(
    'Path=https://three.example.org/demo/portable/',
  );
});

test('two at once: both are published', async () => {
  await Promise.all([into('1.0.0'), into('1.0.1')]);
  expect(names('demo/portable')).toEqual(['demo.portable_1.0.0_x86-64.raw', 'demo.portable_1.0.1_x86-64.raw']);
  const published = await readPublished(destination(), trustOf(keys));
  expect((await published.extension('demo'))?.versions.map(({ version }) => version)).toEqual(['1.0.1', '1.0.0']);
});

test('a version is withdrawn out of the bucket', async () => {
  await into('1.0.0', '1.0.1');
  const store = openStore();
  const place = destination();
  await withdraw({
    name: 'demo',
    version: '1.0.1',
    content: '1.0.0',
    reason: 'bad',
    tree: place.tree(store),
    destination: place,
    keys,
    store,
    report: () => undefined,
  });
  expect(names('demo/4593.2.5')).toEqual(['demo.4593.2.5_1.0.0_x86-64.raw', 'demo.4593.2.5_1.0.1-1_x86-64.raw']);
  // Made of images that were downloaded, checked, and listed with their digests.
  const index = await (await readPublished(destination(), trustOf(keys))).extension('demo');
  const deltas = index?.versions[0]?.images.flatMap((image) => image.deltas ?? []) ?? [];
  expect(deltas.length).toBeGreaterThan(0);
  for (const { path, sha256 } of deltas) expect(sha256Of((await place.read(path)) ?? Buffer.alloc(0))).toBe(sha256);
});

test('wrong credentials are told, and nothing is written', async () => {
  const wrong = s3Destination(`s3://bucket/tree${prefix}`, { ...bucket.env, AWS_SECRET_ACCESS_KEY: 'not this one' });
  await expect(publish({ paths: [join(dir, '1.0.0')], destination: wrong, keys, baseUrl: 'https://one.example.org' })).rejects.toThrow(
    'the bucket answered 403 SignatureDoesNotMatch',
  );
  expect(() => s3Destination('s3://bucket', {})).toThrow('no credentials for the bucket');
});
