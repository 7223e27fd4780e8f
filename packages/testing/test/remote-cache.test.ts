import { spawn, type ChildProcess } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { cacheRoot, digestOf, exec, hashFile, openStore } from '@flatcar/core/engine';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { copyRepository, linkPackages } from '../src/checkout.ts';
import { freePort, untilAnswers } from '../src/server/server.ts';

// Turbo's remote cache as docs/remote-cache.md sets it up, with a real server, and checkouts of this repository.
const repository = resolve(import.meta.dirname, '../../..');
const EXTENSION = 'extension-stager'; // all of it is in this repository: nothing is fetched but the image tools
const TOKEN = 'token-of-the-test';
const KEY = 'signature-key-of-the-test-not-a-secret'; // turbo wants 32 bytes

let dir: string;
let server: ChildProcess | undefined;
let api: string;
const storage = (): string => join(dir, 'storage');

/** The server's packages, installed once from its own lock and kept in the store. */
async function installServer(): Promise<string> {
  const from = join(import.meta.dirname, 'remote-cache');
  const store = openStore();
  const { dir: installed } = await store.result(
    'npm-folder',
    digestOf({ number: 1, lock: await hashFile(join(from, 'package-lock.json')) }),
    async (fresh) => {
      console.error('installing the cache server of the test');
      await cp(from, fresh, { recursive: true });
      await exec('npm', ['ci', '--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
        cwd: fresh,
        env: networkOf(),
      });
    },
  );
  return installed;
}
const networkOf = (): Record<string, string> =>
  Object.fromEntries(
    Object.entries(process.env).flatMap(([key, value]) =>
      /^(HOME|npm_config_.*|NODE_EXTRA_CA_CERTS|SSL_CERT_.*|.*_proxy)$/i.test(key) && value !== undefined ? [[key, value]] : [],
    ),
  );

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'remote-cache-'));
  await mkdir(storage());
  // Once: other tests may leave files in the repository for a moment, and each would be another key.
  await copyRepository(join(dir, 'repository'));
  const installed = await installServer();
  const port = await freePort();
  api = `http://127.0.0.1:${port}`;
  server = spawn(process.execPath, [join(installed, 'node_modules/turborepo-remote-cache/dist/cli.js')], {
    stdio: ['ignore', 'ignore', 'inherit'],
    cwd: dir,
    // As docs/remote-cache.md has them.
    env: {
      PATH: process.env['PATH'],
      NODE_ENV: 'production',
      LOG_LEVEL: 'error',
      PORT: String(port),
      TURBO_TOKEN: TOKEN,
      STORAGE_PROVIDER: 'local',
      STORAGE_PATH: storage(),
      STORAGE_PATH_USE_TMP_FOLDER: 'false',
      BODY_LIMIT: '4000000000',
      TURBO_REMOTE_CACHE_SIGNATURE_KEY: KEY,
    },
  });
  await untilAnswers(
    `${api}/v8/artifacts/status`,
    () => 'what it said is above',
    () => server?.exitCode !== null,
  );
}, 900_000);
afterAll(async () => {
  server?.kill();
  await rm(dir, { recursive: true, force: true });
}, 60_000);

/** A checkout of the repository as it was when the tests began, changes included, with its packages installed. */
async function checkout(name: string): Promise<string> {
  const to = join(dir, name);
  await cp(join(dir, 'repository'), to, { recursive: true });
  await linkPackages(to);
  await exec('git', ['init', '--quiet'], { cwd: to });
  await exec('git', ['add', '--all'], { cwd: to });
  return to;
}

interface Summary {
  readonly execution: { readonly attempted: number; readonly cached: number; readonly success: number; readonly failed: number };
  readonly tasks: readonly { readonly taskId: string; readonly cache: { readonly status: string; readonly source?: string } }[];
}

/** Runs turbo by scripts/run, as `npm run build` does, and gives what its summary says. */
async function turbo(
  where: string,
  {
    env = { FLATCAR_EXT_ORIGIN: 'upstream' },
    filter = EXTENSION,
    command = [join(where, 'scripts/run')],
  }: { env?: Record<string, string>; filter?: string; command?: readonly string[] } = {},
): Promise<Summary> {
  await rm(join(where, '.turbo/runs'), { recursive: true, force: true });
  const [program, ...args] = [...command, 'turbo', 'run', 'build', `--filter=${filter}`, '--summarize'];
  const { all, exitCode } = await execa(program, args, {
    cwd: where,
    all: true,
    reject: false,
    extendEnv: false,
    env: {
      PATH: process.env['PATH'] ?? '',
      ...networkOf(),
      FLATCAR_EXT_CACHE: cacheRoot(),
      TURBO_API: api,
      TURBO_TOKEN: TOKEN,
      TURBO_TEAM: 'team_extensions',
      TURBO_REMOTE_CACHE_SIGNATURE_KEY: KEY,
      TURBO_TELEMETRY_DISABLED: '1',
      ...env,
    },
  });
  expect(exitCode, all).toBe(0);
  const [run = ''] = await readdir(join(where, '.turbo/runs'));
  return JSON.parse(await readFile(join(where, '.turbo/runs', run), 'utf8')) as Summary;
}

const images = async (where: string): Promise<Record<string, string>> => {
  const dist = join(where, 'extensions', EXTENSION, 'dist');
  const files = (await readdir(dist, { recursive: true })).filter((name) => name.endsWith('.raw')).toSorted();
  return Object.fromEntries(await Promise.all(files.map(async (name) => [name, await hashFile(join(dist, name))])));
};
/** What the server keeps, with times: an artefact that is written again shows. */
const kept = async (): Promise<string[]> => {
  const names = (await readdir(storage(), { recursive: true })).toSorted();
  return Promise.all(names.map(async (name) => `${name} ${(await stat(join(storage(), name))).mtimeMs}`));
};

describe('checkouts of this repository', () => {
  let first: Record<string, string>;

  test('a second checkout executes nothing again, and has the same images', async () => {
    const one = await checkout('one');
    const built = await turbo(one);
    expect(built.execution.cached).toBe(0);
    expect(built.execution.success).toBe(built.execution.attempted);
    first = await images(one);
    expect(Object.keys(first).length).toBeGreaterThan(1);

    const two = await checkout('two');
    const again = await turbo(two);
    expect(again.execution).toMatchObject({
      attempted: built.execution.attempted,
      cached: built.execution.attempted,
      success: 0,
      failed: 0,
    });
    for (const { taskId, cache } of again.tasks.filter(({ taskId }) => taskId.startsWith(EXTENSION)))
      expect(cache, taskId).toMatchObject({ status: 'HIT', source: 'REMOTE' });
    expect(await images(two)).toEqual(first);
  }, 900_000);

  test('an artefact with one byte changed is a miss, and is built again', async () => {
    const artefacts = (await readdir(storage(), { recursive: true, withFileTypes: true })).filter((one) => one.isFile());
    expect(artefacts.length).toBeGreaterThan(0);
    for (const { parentPath, name } of artefacts) {
      const bytes = await readFile(join(parentPath, name));
      const middle = bytes.length >> 1;
      bytes[middle] = (bytes[middle] ?? 0) ^ 1;
      await writeFile(join(parentPath, name), bytes);
    }
    const three = await checkout('three');
    const built = await turbo(three);
    expect(built.execution).toMatchObject({ cached: 0, success: built.execution.attempted });
    expect(await images(three)).toEqual(first);
  }, 900_000);

  test('another signature key: nothing of the cache is taken', async () => {
    const four = await checkout('four');
    const built = await turbo(four, {
      env: {
        TURBO_REMOTE_CACHE_SIGNATURE_KEY: 'another-key-of-the-test-not-a-secret',
        TURBO_CACHE: 'local:rw,remote:r',
        FLATCAR_EXT_ORIGIN: 'upstream',
      },
    });
    expect(built.execution).toMatchObject({ cached: 0, success: built.execution.attempted });
  }, 900_000);

  test.each([
    ['auto, the default', {}],
    ['auto, and a cache that may be written', { FLATCAR_EXT_ORIGIN: 'auto', TURBO_CACHE: 'local:rw,remote:rw' }],
  ])(
    'origin %s: never writes',
    async (name, env) => {
      const before = await kept();
      expect(before).not.toEqual([]);
      const where = await checkout(`auto ${name.length}`);
      const built = await turbo(where, { env });
      expect(built.execution.success).toBeGreaterThan(0);
      expect(await kept()).toEqual(before);
    },
    900_000,
  );
});

test('an artefact of more than 100 MiB, at which the server stops unless it is told', async () => {
  const make = async (name: string): Promise<string> => {
    const where = join(dir, name);
    await mkdir(join(where, 'packages/big'), { recursive: true });
    const { packageManager } = JSON.parse(await readFile(join(repository, 'package.json'), 'utf8')) as { packageManager: string };
    await writeFile(
      join(where, 'package.json'),
      JSON.stringify({ name: 'fixture', private: true, packageManager, workspaces: ['packages/*'] }),
    );
    await writeFile(
      join(where, 'package-lock.json'),
      JSON.stringify({
        name: 'fixture',
        lockfileVersion: 3,
        packages: {
          '': { name: 'fixture', workspaces: ['packages/*'] },
          'node_modules/big': { resolved: 'packages/big', link: true },
          'packages/big': { version: '0.0.0' },
        },
      }),
    );
    await writeFile(
      join(where, 'packages/big/package.json'),
      JSON.stringify({ name: 'big', version: '0.0.0', scripts: { build: 'mkdir -p dist && head -c 115343360 /dev/urandom >dist/big' } }),
    );
    await cp(join(repository, 'turbo.json'), join(where, 'turbo.json'));
    await exec('git', ['init', '-q'], { cwd: where });
    return where;
  };
  const command = [join(repository, 'scripts/run')];
  const [one, two] = [await make('big-one'), await make('big-two')];
  expect((await turbo(one, { filter: 'big', command })).execution.cached).toBe(0);
  expect((await turbo(two, { filter: 'big', command })).execution).toMatchObject({ attempted: 1, cached: 1, success: 0 });
  expect(await hashFile(join(two, 'packages/big/dist/big'))).toBe(await hashFile(join(one, 'packages/big/dist/big')));
}, 900_000);
