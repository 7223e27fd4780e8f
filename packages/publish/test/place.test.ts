import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '@flatcar/core/engine';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { initKeys, localPath, openDestination, openTree, parsePlace } from '../src/index.ts';

// What names a place is one of the known forms, or is refused before anything is made.
const AWS = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' };
const PROGRAM = join(import.meta.dirname, '../../cli/bin/flatcar-ext');
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'place-'));
  await initKeys(join(dir, 'keys'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test.each([
  ['/srv/extensions', 'folder'],
  ['tree', 'folder'],
  ['../tree', 'folder'],
  ['./ftp:', 'folder'],
  ['./C:\\tree', 'folder'],
  ['/srv/a:b', 'folder'],
  ['a/b:c', 'folder'],
  ['a b', 'folder'],
  ['https://extensions.example.org/a', 'http'],
  ['http://127.0.0.1:8000', 'http'],
  ['s3://bucket', 's3'],
  ['s3://my.bucket-1/some/prefix/', 's3'],
  ['oci://registry.example.org:5000/flatcar/extensions', 'oci'],
])('%s is a place: %s', (word, kind) => {
  expect(parsePlace(word, '--tree').kind).toBe(kind);
});

const REFUSED = [
  '',
  ' ',
  '\n',
  'ftp:',
  'ftp://x',
  'gs://bucket',
  'S3://bucket',
  's3:/bucket',
  's3:bucket',
  's3://',
  's3://Bucket',
  's3://b',
  's3://bucket/../x',
  's3://bucket//x',
  's3://bucket?x',
  'https:/x',
  'https://',
  'HTTP://x',
  'https://x.example.org/?list',
  'file:///srv',
  'oci://registry',
  'oci:',
  'github:owner/name',
  'rsync://x',
  'host:/srv',
  'user@host:tree',
  'C:\\tree',
  'C:/tree',
  'c:',
  'dir\\tree',
  '\\\\server\\share',
  '~',
  '~/tree',
  '--keys',
  '-',
  ' /srv',
  '/srv\n',
  'a\u0000b',
];

test.each(REFUSED)('%j is refused, with what to write instead', (word) => {
  expect(() => parsePlace(word, '--tree')).toThrow(UsageError);
  try {
    parsePlace(word, '--tree');
  } catch (error) {
    expect(error).toMatchObject({ where: '--tree', next: expect.stringMatching(/\w/) });
  }
});

test('a place that cannot be what it is asked for is refused by name', () => {
  expect(() => openDestination('https://x.example.org')).toThrow(/is a web server, and nothing is published through one/);
  expect(() => openDestination('oci://registry.example.org/x')).toThrow(/is a registry, which holds no tree/);
  expect(() => openTree('oci://registry.example.org/x')).toThrow(/is a registry: it holds copies/);
  expect(() => openDestination('tree', { assets: 'gitlab:a/b' })).toThrow(/is not a place for assets/);
  expect(() => localPath('https://x.example.org/a.raw', 'verify')).toThrow(UsageError);
  expect(openDestination('s3://bucket/x', { env: AWS }).where).toBe('s3://bucket/x');
  expect(openTree('s3://bucket/x', undefined, { env: AWS }).where).toBe('s3://bucket/x');
});

interface Ran {
  readonly code: number | undefined;
  readonly err: string;
}
async function run(...args: string[]): Promise<Ran> {
  const cwd = join(dir, 'empty');
  const { exitCode, stderr } = await execa(PROGRAM, args, {
    reject: false,
    cwd: dir,
    env: { ...AWS, GITHUB_ACTIONS: '' },
    timeout: 150_000,
  });
  expect(await readdir(dir), cwd).toEqual(['keys']);
  return { code: exitCode, err: stderr };
}

test.each([
  ['publish', 'x', '--tree'],
  ['withdraw', 'demo@1.0', '--content', '1.1', '--reason', 'x', '--tree'],
  ['retire', '--dry-run', '--tree'],
  ['mirror', '--tree', 'https://x.example.org', '--base-url', 'https://y.example.org', '--to'],
  ['mirror', '--to', 'copy', '--base-url', 'https://y.example.org', '--tree'],
  ['plan', '--tree'],
  ['bind', 'demo', '--tree'],
  ['butane', 'demo', '--release', 'stable', '--base-url', 'https://x.example.org', '--tree'],
  ['verify'],
  ['keys', 'init'],
])('%s %s refuses an empty and an unknown place with exit code 2, and makes nothing', async (...args) => {
  const more =
    args[0] === 'bind'
      ? ['--release', 'stable', '--out', 'out', '--keys', 'keys']
      : args[0] === 'keys' || args[0] === 'butane' || args[0] === 'verify'
        ? []
        : ['--keys', 'keys'];
  for (const word of ['', 'ftp://x']) {
    const { code, err } = await run(...args, word, ...more);
    expect(err).toMatch(
      word === '' ? /no place is named: the value is empty|an argument is empty/ : /'ftp:\/\/x' is not a known kind of place/,
    );
    expect(code).toBe(2);
  }
});

test('a tree that does not exist is an error for whatever works on one, and a folder that cannot be made ends at once', async () => {
  const to = ['--tree', join(dir, 'nowhere'), '--keys', 'keys'];
  for (const args of [
    ['retire', '--dry-run', ...to],
    ['retire', ...to],
    ['withdraw', 'demo@1.0', '--content', '1.1', '--reason', 'x', ...to],
    ['publish', ...to, '--base-url', 'https://x.example.org'],
    ['mirror', '--to', join(dir, 'mirror'), '--tree', join(dir, 'nowhere'), '--keys', 'keys', '--base-url', 'https://x.example.org'],
    ['plan', '--tree', join(dir, 'nowhere'), '--keys', 'keys'],
    ['bind', 'demo', '--tree', join(dir, 'nowhere'), '--release', 'stable', '--out', 'out', '--keys', 'keys'],
    [
      'butane',
      'demo',
      '--release',
      'stable',
      '--base-url',
      'https://x.example.org',
      '--tree',
      join(dir, 'nowhere'),
      '--root',
      'keys/metadata',
    ],
  ]) {
    const { code, err } = await run(...args);
    expect(err, args[0]).toContain('nothing is published here');
    expect(code, args[0]).toBe(1);
  }
  const spun = await run('publish', '--first-publish', '--tree', '/proc/x/tree', '--keys', 'keys', '--base-url', 'https://x.example.org');
  expect(spun.err).toContain('the folder cannot be made');
  expect(spun.code).toBe(1);
});
