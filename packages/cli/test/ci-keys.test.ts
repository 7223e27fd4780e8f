import { resolve } from 'node:path';
import { exec } from '@flatcar/core';
import { afterEach, expect, test, vi } from 'vitest';
import { withoutKeys } from '../src/ci/attempt.ts';

const SECRETS = [
  'FLATCAR_EXT_SUMS_KEY',
  'FLATCAR_EXT_UPDATE_KEY',
  'FLATCAR_EXT_ROOTHASH_KEY',
  'FLATCAR_EXT_KEYS',
  'GITHUB_TOKEN',
  'ACTIONS_ID_TOKEN_REQUEST_TOKEN',
  'ACTIONS_RUNTIME_TOKEN',
  'AWS_SECRET_ACCESS_KEY',
  'AWS_SESSION_TOKEN',
  'TURBO_TOKEN',
];

afterEach(() => vi.unstubAllEnvs());

test('a build by turbo is given settings, and no key', async () => {
  const secrets = Object.fromEntries(SECRETS.map((name) => [name, `secret of ${name}`]));
  const said = await exec('turbo', ['run', 'build', '--filter=hardening', '--dry=json'], {
    cwd: resolve(import.meta.dirname, '../../..'),
    env: { ...secrets, FLATCAR_EXT_ARCH: 'arm64', FLATCAR_EXT_CACHE: '/nowhere', TURBO_TELEMETRY_DISABLED: '1' },
  });
  const { tasks } = JSON.parse(said) as { tasks: { environmentVariables: Record<string, unknown> }[] };
  const variables = JSON.stringify(tasks.map(({ environmentVariables }) => environmentVariables));
  expect(variables).toContain('FLATCAR_EXT_ARCH='); // with its digest: it is part of the key of what is made
  // The patterns that name what is left out are in it too; a variable that is given stands there with its digest.
  for (const name of SECRETS) expect(variables).not.toContain(`${name}=`);
});

test('a build by ci build is given no key either', () => {
  for (const name of SECRETS) vi.stubEnv(name, 'secret');
  vi.stubEnv('FLATCAR_EXT_CACHE', '/store');
  vi.stubEnv('FLATCAR_EXT_DEBIAN_MIRROR', 'https://mirror.example.org');
  const env = withoutKeys();
  for (const name of SECRETS) expect(env).not.toHaveProperty([name]);
  expect(env).toMatchObject({ FLATCAR_EXT_CACHE: '/store', FLATCAR_EXT_DEBIAN_MIRROR: 'https://mirror.example.org' });
});
