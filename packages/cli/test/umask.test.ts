// Under any umask: the owner of what commands make can use it.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

const run = promisify(execFile);
const repository = resolve(import.meta.dirname, '../../..');

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'umask-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const under = async (umask: string, command: string, ...args: string[]): Promise<string> =>
  (await run('sh', ['-c', `umask ${umask}; exec "$@"`, 'sh', join(repository, command), ...args])).stdout.trim();

test.each([
  ['0777', '0077'],
  ['0700', '0000'],
  ['0027', '0027'],
  ['0002', '0002'],
])('scripts/run under umask %s leaves the owner all rights, and takes from others what it took: %s', async (umask, expected) => {
  expect(await under(umask, 'scripts/run', 'sh', '-c', 'umask')).toBe(expected);
});

test.each(['0777', '0022'])('flatcar-ext under umask %s: its owner can use the folder that it makes', async (umask) => {
  const folder = join(dir, umask);
  await under(umask, 'scripts/run', 'flatcar-ext', 'keys', 'init', folder);
  expect((await stat(folder)).mode & 0o700).toBe(0o700);
  await rm(folder, { recursive: true });
  await under(umask, 'packages/cli/bin/flatcar-ext', 'keys', 'init', folder);
  expect((await stat(folder)).mode & 0o700).toBe(0o700);
});
