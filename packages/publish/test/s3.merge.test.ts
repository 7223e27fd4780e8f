// @module-tag full
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore, selectTargets, type Release } from '@flatcar/core';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  ConflictError,
  initKeys,
  loadKeys,
  publish,
  readPublished,
  s3Destination,
  withdraw,
  type Destination,
  type PublishKeys,
  type PublishResult,
} from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { withBucket, type TestBucket } from '@flatcar/testing';

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
  execFileSync('sha256sum', ['--check', '--strict', '--quiet', 'SHA256SUMS'], { cwd: at(folder), stdio: 'pipe' });
  return execFileSync('cut', ['-c67-', 'SHA256SUMS'], { cwd: at(folder), encoding: 'utf8' })
    .trim()
    .split('\n');
}

test('publishes, leaves alone what is there, adds what is new, and refuses other bytes', async () => {
  expect(await into('1.0.0')).toMatchObject({ serial: 1, unchanged: 0 });
  expect(names('demo/4593.2.5')).toEqual(['demo-1.0.0-4593.2.5-x86-64.raw']);
  expect(names('amd64-usr/4593.2.5')).toEqual(['flatcar-demo.gz', 'flatcar-demo.raw']);
  expect(await into('1.0.0')).toMatchObject({ serial: 1, added: [], signed: [] });
  expect(await into('1.0.1')).toMatchObject({ serial: 2 });
  expect(names('demo/4593.2.5')).toEqual(['demo-1.0.0-4593.2.5-x86-64.raw', 'demo-1.0.1-4593.2.5-x86-64.raw']);
  await expect(into('other')).rejects.toThrow('published with other bytes');
  expect(names('demo/portable')).toEqual(['demo-1.0.0-x86-64.raw', 'demo-1.0.1-x86-64.raw']);
});

test('a name that an unfinished publish has taken with other bytes is refused, with the same bytes it is fine', async () => {
  const place = destination();
  const put = async (text: string): Promise<void> => {
    const file = join(dir, 'small');
    await writeFile(file, text);
    const { sha256Of } = await import('../src/state.ts');
    await place.put('demo/x.raw', file, { size: text.length, sha256: sha256Of(Buffer.from(text)) });
  };
  await put('one');
  await put('one');
  await expect(put('two')).rejects.toThrow('published with other bytes');
  expect(await readFile(at('demo/x.raw'), 'utf8')).toBe('one');
});

test('what another has replaced since it was read is not replaced', async () => {
  const [one, two] = [destination(), destination()];
  const text = (value: string): Map<string, Buffer> => new Map([['SHA256SUMS', Buffer.from(value)]]);
  expect(await one.read('demo/SHA256SUMS')).toBe(undefined);
  expect(await two.read('demo/SHA256SUMS')).toBe(undefined);
  await one.replace('demo', text('one'));
  await expect(two.replace('demo', text('two'))).rejects.toThrow(ConflictError);
  await two.read('demo/SHA256SUMS');
  await two.replace('demo', text('two'));
  await expect(one.replace('demo', text('three'))).rejects.toThrow(ConflictError);
  expect(await readFile(at('demo/SHA256SUMS'), 'utf8')).toBe('two');
});

test('two at once: both are published', async () => {
  await Promise.all([into('1.0.0'), into('1.0.1')]);
  expect(names('demo/portable')).toEqual(['demo-1.0.0-x86-64.raw', 'demo-1.0.1-x86-64.raw']);
  const published = await readPublished(destination(), keys.trusted);
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
  expect(names('demo/4593.2.5')).toEqual(['demo-1.0.0-4593.2.5-x86-64.raw', 'demo-1.0.1-1-4593.2.5-x86-64.raw']);
});

test('wrong credentials are told, and nothing is written', async () => {
  const wrong = s3Destination(`s3://bucket/tree${prefix}`, { ...bucket.env, AWS_SECRET_ACCESS_KEY: 'not this one' });
  await expect(publish({ paths: [join(dir, '1.0.0')], destination: wrong, keys, baseUrl: 'https://one.example.org' })).rejects.toThrow(
    'the bucket answered 403 SignatureDoesNotMatch',
  );
  expect(() => s3Destination('s3://bucket', {})).toThrow('no credentials for the bucket');
});
