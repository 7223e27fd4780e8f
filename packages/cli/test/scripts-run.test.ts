import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';

// scripts/run in a checkout of its own. The npm is one that does as it is told by its arguments, by the user's environment and by npmrc.
const repository = resolve(import.meta.dirname, '../../..');
const arch = process.arch === 'arm64' ? 'arm64' : 'x64';
let dir: string;
let root: string;
let bin: string;

const FAKE_NPM = `#!/bin/sh
echo "$PWD: $*" >>"$FAKE_LOG"
env | grep -i ^npm_config_ >>"$FAKE_LOG.env"
[ ! -e "$FAKE_LOG.fail" ] || exit 1
mkdir -p node_modules/.bin node_modules/node-linux-${arch}/bin
for program in node_modules/.bin/turbo node_modules/node-linux-${arch}/bin/node; do
  printf '#!/bin/sh\\nexec %s "$@"\\n' "\${FAKE_PROGRAM:-true}" >$program
  chmod +x $program
done
[ ! -e "$FAKE_LOG.nobin" ] || rm node_modules/.bin/turbo
`;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'run-'));
  bin = join(dir, 'bin');
  await mkdir(bin);
  await writeFile(join(bin, 'npm'), FAKE_NPM, { mode: 0o755 });
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(async () => {
  root = await mkdtemp(join(dir, 'check out-'));
  await chmod(root, 0o755);
  await mkdir(join(root, 'scripts/toolchain'), { recursive: true });
  await mkdir(join(root, 'extensions/yq'), { recursive: true });
  await cp(join(repository, 'scripts/run'), join(root, 'scripts/run'));
  for (const name of ['package-lock.json', 'scripts/toolchain/package-lock.json']) await writeFile(join(root, name), '{}');
});

interface Said {
  readonly code: unknown;
  readonly out: string;
  readonly err: string;
}

async function run(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd = root,
  ids: { uid?: number } = {},
  onError: (shown: string) => void = () => undefined,
): Promise<Said> {
  const child = spawn(join(root, 'scripts/run'), args, {
    cwd,
    env: { PATH: `${bin}:${process.env['PATH'] ?? ''}`, HOME: dir, FAKE_LOG: join(root, 'log'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...ids,
  });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString();
    onError(err);
  });
  const [code] = (await once(child, 'close')) as unknown[];
  return { code, out, err };
}
const log = (name = 'log'): Promise<string> => readFile(join(root, name), 'utf8');
const isThere = (path: string): Promise<boolean> =>
  access(join(root, path)).then(
    () => true,
    () => false,
  );

test("what is installed does not depend on the user's npm settings", async () => {
  const settings = {
    npm_config_omit: 'dev',
    npm_config_bin_links: 'false',
    NPM_CONFIG_ONLY: 'prod',
    npm_config_global: 'true',
    npm_config_dry_run: 'true',
    npm_config_registry: 'http://registry.example',
    npm_config_version: 'true',
    NODE_ENV: 'production',
  };
  expect(await run(['sh', '-c', 'echo "ran ${NODE_ENV-unset}"'], settings)).toMatchObject({ code: 0, out: 'ran unset\n' });
  for (const flag of [
    'ci',
    '--include=dev',
    '--include=optional',
    '--bin-links',
    '--install-strategy=hoisted',
    '--ignore-scripts',
    '--location=project',
    '--no-dry-run',
  ])
    expect((await log()).split('\n')[1]).toMatch(new RegExp(`(?:^| )${flag}( |$)`));
  expect([...new Set((await log('log.env')).trim().split('\n'))]).toEqual(['npm_config_registry=http://registry.example']);
});

test('an installation without its programs is no installation, and is made again', async () => {
  await writeFile(join(root, 'log.nobin'), '');
  const first = await run(['true']);
  expect(first.code).toBe(1);
  expect(first.err).toMatch(/npm installed without 'node_modules\/\.bin\/turbo'[^]*do: see npm config list/);
  expect(await isThere('node_modules/.installed')).toBe(false);
  await rm(join(root, 'log.nobin'));
  expect((await run(['echo', 'well'])).out).toBe('well\n');
  expect(await isThere('node_modules/.installed')).toBe(true);
  const before = await log();
  await run(['true']);
  expect(await log()).toBe(before);
  await rm(join(root, 'node_modules/.bin/turbo'));
  expect((await run(['echo', 'again'])).out).toBe('again\n');
  expect(await isThere('node_modules/.bin/turbo')).toBe(true);
});

test('a failed installation, and programs that do not run, are told with the reason', async () => {
  await writeFile(join(root, 'log.fail'), '');
  expect((await run(['true'])).err).toMatch(/npm could not install what scripts\/toolchain\/package-lock\.json asks for/);
  await rm(join(root, 'log.fail'));
  expect((await run(['true'], { FAKE_PROGRAM: 'false' })).err).toMatch(/does not run[^]*noexec/);
  expect(await isThere('node_modules/.installed')).toBe(false);
});

test('a checkout of somebody else in which nothing is installed names its owner', async () => {
  await chmod(dir, 0o755);
  await chmod(root, 0o555);
  const said = await run(['true'], {}, root, process.getuid?.() === 0 ? { uid: 65_534 } : {});
  expect(said).toMatchObject({ code: 1, out: '' });
  expect(said.err).toMatch(
    /^error: what this checkout needs is not installed, and \S+ cannot write here\n  at: .*\n  do: run scripts\/run true once as its owner/,
  );
  await chmod(root, 0o755);
});

test("the user's settings of Node do not reach the repository's", async () => {
  const env = { NODE_OPTIONS: '--no-strip-types --require /missing.js', NODE_PATH: '/nowhere', NODE_PRESERVE_SYMLINKS: '1' };
  const { out } = await run(['sh', '-c', 'echo "${NODE_OPTIONS-unset} ${NODE_PATH-unset} ${NODE_PRESERVE_SYMLINKS-unset}"'], env);
  expect(out).toBe('unset unset unset\n');
});

test('options that npm takes for its own are refused with the line to write', async () => {
  const filter = await run(['turbo', 'run', 'build'], { npm_lifecycle_event: 'build', npm_config_filter: 'yq' });
  expect(filter).toMatchObject({ code: 2, out: '' });
  expect(filter.err).toContain('npm run build -- --filter=yq');
  expect((await run(['turbo', 'run', 'build', 'yq'], { npm_lifecycle_event: 'build' })).err).toContain('npm run build -- --filter=yq');
  // Without npm run these are anybody's variables.
  expect((await run(['true'], { npm_config_filter: 'yq' })).code).toBe(0);
});

test('relative paths are those of the folder where the command was typed', async () => {
  const typed = join(dir, 'typed here');
  await mkdir(typed, { recursive: true });
  const show = ['sh', '-c', 'echo "$FLATCAR_EXT_CACHE|${FLATCAR_EXT_KEYS-unset}|${FLATCAR_EXT_KEYRING-unset}|${INIT_CWD-unset}"'];
  const env = { FLATCAR_EXT_CACHE: 'my cache', FLATCAR_EXT_KEYS: '', FLATCAR_EXT_KEYRING: '/abs/ring' };
  expect((await run(show, { ...env, INIT_CWD: typed })).out).toBe(`${typed}/my cache|unset|/abs/ring|unset\n`);
  expect((await run(show, env, typed)).out).toBe(`${typed}/my cache|unset|/abs/ring|unset\n`);
  // Turbo runs each extension in its own folder; what goes elsewhere than dist/ is no output that it knows.
  await run(['true']);
  await writeFile(join(root, 'node_modules/.bin/turbo'), '#!/bin/sh\necho "$FLATCAR_EXT_CWD|${TURBO_FORCE-unset}"\n');
  expect((await run(['turbo', 'run', 'build'], { INIT_CWD: typed })).out).toBe(`${typed}|unset\n`);
  expect((await run(['turbo', 'run', 'build', '--', '--out', 'x'], { INIT_CWD: typed })).out).toBe(`${typed}|true\n`);
});

test('an installation waits for commands that run on node_modules, but not for the one that it runs in', async () => {
  await run(['true']);
  const long = run(['sh', '-c', 'touch begun; until [ -e go ]; do sleep 0.05; done; echo "$(ls node_modules/.bin)"; touch ended']);
  await expect.poll(() => isThere('begun'), { timeout: 120_000 }).toBe(true);
  await writeFile(join(root, 'package-lock.json'), '{"changed":1}');
  const waiting = Promise.withResolvers<void>();
  const waited = run(['sh', '-c', 'ls ended'], {}, root, {}, (shown) => {
    if (shown.includes('waiting for commands that run in this checkout')) waiting.resolve();
  });
  await waiting.promise;
  await writeFile(join(root, 'go'), '');
  expect(await waited).toMatchObject({ code: 0, out: 'ended\n' });
  expect((await long).out).toContain('turbo');
  // A command that changes the lock and runs another: it would wait for itself.
  const nested = await run(['sh', '-c', 'echo "{}" >package-lock.json; scripts/run echo inside']);
  expect(nested).toMatchObject({ code: 0, out: 'inside\n' });
});

test('a command whose child must install is not blocked by another command that waits to install', async () => {
  await run(['true']);
  const long = run(['sh', '-c', 'touch begun; until [ -e go ]; do sleep 0.05; done; scripts/run echo inside']);
  await expect.poll(() => isThere('begun'), { timeout: 120_000 }).toBe(true);
  await writeFile(join(root, 'package-lock.json'), '{"changed":1}');
  const waiting = Promise.withResolvers<void>();
  const waited = run(['echo', 'outside'], {}, root, {}, (shown) => {
    if (shown.includes('waiting for commands that run in this checkout')) waiting.resolve();
  });
  await waiting.promise;
  await writeFile(join(root, 'go'), '');
  expect(await long).toMatchObject({ code: 0, out: 'inside\n' });
  expect(await waited).toMatchObject({ code: 0, out: 'outside\n' });
}, 60_000);

test('under sudo nothing is left in the checkout that its owner cannot write', async ({ skip }) => {
  if (process.geteuid?.() !== 0) return skip('skipped: only root can play sudo');
  const owner = async (path: string): Promise<number> => (await stat(join(root, path))).uid;
  const { lchown } = await import('node:fs/promises');
  for (const path of ['.', ...(await readdir(root, { recursive: true }))]) await lchown(join(root, path), 65534, 65534);
  const sudo = { SUDO_UID: '65534', SUDO_GID: '65534', SUDO_USER: 'nobody' };
  const said = await run(
    ['sh', '-c', 'mkdir -p dist/deep; touch dist/deep/file; ln -s /etc/passwd dist/link; scripts/run touch nested; exit 7'],
    sudo,
  );
  expect(said).toMatchObject({ code: 7 });
  for (const path of await readdir(root, { recursive: true })) if (path !== 'dist/link') expect(await owner(path), path).toBe(65534);
  expect((await stat('/etc/passwd')).uid).toBe(0);
  // A signal to it is one to the command, which ends with a code of its own.
  const child = spawn(join(root, 'scripts/run'), ['sh', '-c', 'trap "exit 9" TERM; echo begun; while :; do sleep 0.1; done'], {
    cwd: root,
    env: { PATH: process.env['PATH'], ...sudo },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  child.kill('SIGTERM');
  expect((await once(child, 'close'))[0]).toBe(9);
});
