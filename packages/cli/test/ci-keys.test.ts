import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { exec, withoutSecrets } from '@flatcar/core/engine';
import { afterEach, expect, test, vi } from 'vitest';
import { runProgram } from '@flatcar/workspace/ci/run-step';

const REPOSITORY = resolve(import.meta.dirname, '../../..');
const SECRETS = [
  'FLATCAR_EXT_SUMS_KEY',
  'FLATCAR_EXT_TARGETS_KEY',
  'FLATCAR_EXT_SNAPSHOT_KEY',
  'FLATCAR_EXT_TIMESTAMP_KEY',
  'FLATCAR_EXT_UPDATE_KEY',
  'FLATCAR_EXT_ROOTHASH_KEY',
  'FLATCAR_EXT_KEYS',
  'GITHUB_TOKEN',
  'GITLAB_TOKEN',
  'NPM_TOKEN',
  'npm_config__auth',
  'ACTIONS_ID_TOKEN_REQUEST_TOKEN',
  'ACTIONS_RUNTIME_TOKEN',
  'AWS_ACCESS_KEY_ID',
  'AWS_SECRET_ACCESS_KEY',
  'AWS_SESSION_TOKEN',
  'TURBO_TOKEN',
  'TURBO_REMOTE_CACHE_SIGNATURE_KEY',
  'CARGO_REGISTRIES_OURS_TOKEN',
  'GOOGLE_APPLICATION_CREDENTIALS',
  'DB_PASSWORD',
  'SSH_AUTH_SOCK',
  'TOKEN',
];
const SECRET = 'secret-of-this-test';
const stub = (): void => SECRETS.forEach((name) => vi.stubEnv(name, SECRET));

afterEach(() => vi.unstubAllEnvs());

test('a task of turbo, as npm run build starts it, prints an environment with settings and no key', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'turbo-env-'));
  try {
    // The repository's own turbo.json, over a package whose build is `env`.
    await mkdir(join(dir, 'extensions/probe'), { recursive: true });
    const { packageManager } = JSON.parse(await readFile(join(REPOSITORY, 'package.json'), 'utf8')) as { packageManager: string };
    await writeFile(join(dir, 'package.json'), JSON.stringify({ name: 'root', packageManager, workspaces: ['extensions/*'] }));
    await writeFile(
      join(dir, 'extensions/probe/package.json'),
      JSON.stringify({ name: 'probe', version: '1.0.0', scripts: { build: 'mkdir -p dist && env >dist/env' } }),
    );
    await writeFile(
      join(dir, 'package-lock.json'),
      JSON.stringify({ name: 'root', lockfileVersion: 3, packages: { '': { name: 'root', workspaces: ['extensions/*'] } } }),
    );
    await cp(join(REPOSITORY, 'turbo.json'), join(dir, 'turbo.json'));
    await cp(join(REPOSITORY, 'tsconfig.base.json'), join(dir, 'tsconfig.base.json'));
    await symlink(join(REPOSITORY, 'node_modules'), join(dir, 'node_modules'));
    const secrets = Object.fromEntries(SECRETS.map((name) => [name, SECRET]));
    const settings = { FLATCAR_EXT_ARCH: 'arm64', FLATCAR_EXT_CACHE: '/nowhere', TURBO_TELEMETRY_DISABLED: '1', TURBO_CACHE: 'local:' };
    await exec(join(REPOSITORY, 'scripts/run'), ['turbo', 'run', 'build'], { cwd: dir, env: { ...secrets, ...settings } });
    const printed = await readFile(join(dir, 'extensions/probe/dist/env'), 'utf8');
    expect(printed).toContain('FLATCAR_EXT_ARCH=arm64');
    expect(printed).toContain('FLATCAR_EXT_CACHE=/nowhere');
    // Turbo passes on what begins with its name; bin/flatcar-ext takes those away: see below.
    const secret = printed.split('\n').filter((line) => line.includes(SECRET));
    expect(secret.filter((line) => !line.startsWith('TURBO_'))).toEqual([]);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

test('flatcar-ext itself has no key of turbo', async () => {
  // It waits for a server that does not answer, so that its environment can be read.
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const env = {
    ...process.env,
    TURBO_TOKEN: SECRET,
    TURBO_REMOTE_CACHE_SIGNATURE_KEY: SECRET,
    FLATCAR_EXT_ARCH: 'arm64',
    GITHUB_API_URL: url,
  };
  const child = spawn(join(REPOSITORY, 'packages/cli/bin/flatcar-ext'), ['outdated', 'youki'], { env, stdio: 'ignore' });
  try {
    await Promise.race([once(server, 'connection'), once(child, 'exit')]);
    const environ = await readFile(`/proc/${child.pid}/environ`, 'utf8');
    expect(environ).toContain('FLATCAR_EXT_ARCH=arm64');
    expect(environ).not.toContain(SECRET);
  } finally {
    child.kill('SIGKILL');
    server.close();
  }
});

test('a tool that a build runs is given an environment of its own', async () => {
  stub();
  const printed = await exec('env', []);
  expect(printed).toContain('LC_ALL=C');
  expect(printed).not.toContain(SECRET);
});

test('a build by ci build, and tests, are given settings and no key', async () => {
  stub();
  vi.stubEnv('FLATCAR_EXT_CACHE', '/store');
  vi.stubEnv('FLATCAR_EXT_DEBIAN_MIRROR', 'https://mirror.example.org');
  const { stdout, error } = await runProgram('env', [], new AbortController().signal, {
    output: { tell: () => undefined, fence: () => ({ end: () => undefined }) },
    env: withoutSecrets(),
    json: true,
  });
  expect(error).toBeUndefined();
  expect(stdout).toContain('FLATCAR_EXT_CACHE=/store');
  expect(stdout).toContain('FLATCAR_EXT_DEBIAN_MIRROR=https://mirror.example.org');
  expect(stdout).not.toContain(SECRET);
});

// Each place that starts something with the environment of this process says which part of it.
test.each([
  ['packages/workspace/src/machine-tests.ts', /extendEnv: false,\s*env: \{ \.\.\.withoutSecrets\(\)/],
  ['packages/cli/src/commands/ci/test.ts', /extendEnv: false,\s*env: withoutSecrets\(\)/],
  ['scripts/test/test.ts', /env: \{ \.\.\.withoutSecrets\(\)/],
])('%s starts tests without them', async (file, pattern) => {
  expect(await readFile(join(REPOSITORY, file), 'utf8')).toMatch(pattern);
});
