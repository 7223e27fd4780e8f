import { copyFile, glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '@flatcar/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openWorld, type World } from './world.ts';

const bin = join(import.meta.dirname, '../../bin/flatcar-ext');
let world: World;

/** Makes keys as docs/releases.md says: the private ones are secrets of the environment, the public one is committed. */
async function makeKeys(): Promise<void> {
  const keys = join(world.dir, 'keys');
  await exec(bin, ['keys', 'init', keys], { env: { HOME: world.dir, PATH: process.env['PATH'] ?? '' } });
  const [sums = ''] = await Array.fromAsync(glob('sums/*.key.asc', { cwd: keys }));
  const [update = ''] = await Array.fromAsync(glob('update/*.key.pem', { cwd: keys }));
  const read = (name: string): Promise<string> => readFile(join(keys, name), 'utf8');
  Object.assign(world.secrets, {
    RELEASE__SUMS_KEY: await read(sums),
    RELEASE__UPDATE_KEY: await read(update),
    RELEASE__ROOTHASH_KEY: await read('roothash.key'),
  });
  world.variables['ROOTHASH_CERTIFICATE'] = await read('roothash.crt');
  await copyFile(join(keys, sums.replace('.key.', '.pub.')), join(world.clone.dir, '.github/keyring.gpg'));
  await world.clone.push('keyring');
}

beforeAll(async () => {
  world = await openWorld(['hardening', 'extension-stager']);
  await makeKeys();
}, 600_000);
afterAll(() => world?.close());

test('first publish', async () => {
  const { jobs, log } = await world.run('release.yml', { inputs: { 'first-publish': 'true' } });
  expect(Object.fromEntries(jobs.map(({ job, result }) => [job, result])), log).toMatchObject({
    plan: 'success',
    bind: 'skipped',
    'hardening: publish': 'success',
    'extension-stager: publish': 'success',
  });
  expect(await world.attested()).toHaveLength(20);
}, 600_000);
