import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const bin = resolve(import.meta.dirname, '../bin/flatcar-ext');
let dir: string;
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'usage-'))));
afterAll(() => rm(dir, { recursive: true, force: true }));

async function run(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd = dir,
): Promise<{ code: unknown; out: string; err: string }> {
  const child = spawn(bin, args, { cwd, env: { ...process.env, FORCE_COLOR: '0', ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const [code] = (await once(child, 'close')) as unknown[];
  return { code, out, err };
}

describe('wrong usage ends with exit code 2 and says what is right', () => {
  test.for([
    ['build', /no extension was named[^]*flatcar-ext list shows the extensions/],
    ['build btp', /there is no extension 'btp'[^]*did you mean 'btop'/],
    ['build nope', /there is no extension 'nope'[^]*flatcar-ext list shows the extensions/],
    ['build yq --arch mips', /unknown architecture 'mips'[^]*use x86-64 or arm64/],
    ['build yq --release stabl', /'stabl' is not a Flatcar release or channel/],
    ['build yq --profile fst', /allowed choices are fast, publish/],
    ['build yq@0.1', /yq 0\.1 is not pinned[^]*pinned versions: /],
    ['build yq --key key.pem', /--key and --certificate go together/],
    ['build yq --out=', /expected a path/],
    // What an unset variable leaves of an option is not its default.
    ['build yq --arch=', /the list is empty[^]*at: --arch/],
    ['build yq --release=', /no release was specified/],
    ['build yq --only=,', /the list is empty[^]*at: --only/],
    ['mirror --to ./mirror --tree /nonexistent --base-url https://x.example.org --arch=', /the list is empty[^]*at: --arch/],
    ['mirror --to ./mirror --tree /nonexistent --base-url https://x.example.org --release=,', /no release was specified/],
    ['explain nope', /there is no rule 'nope'/],
    ['lint nope', /neither an image file nor an extension/],
    ['outdated nope', /there is no extension 'nope'/],
    ['bump', /no extension was named/],
    ['test', /no extension was named/],
    ['test yq --os windows', /there is no image 'windows' to boot/],
    ['cache status', /cache has no command 'status'/],
    ['cache prune --older-than=', /expected a number of days/],
    ['cache prune --older-than 3d', /expected a number of days/],
    ['cache prune --max-size 10GB', /expected a number of GiB, without a unit/],
    ['cache prune --max-size -1', /expected a number of GiB/],
    ['list --frobnicate', /unknown option/],
    // What is published is compiled in the sandbox.
    ['ci build --matrix matrix.json --no-sandbox', /unknown option '--no-sandbox'/],
  ] as const)('%s', async ([line, message]) => {
    const { code, out, err } = await run(line.split(' '));
    expect(err).toMatch(message);
    expect(err).not.toContain('please report');
    expect(out).toBe('');
    expect(code).toBe(2);
  });

  test('an environment variable that stands in for an option counts as one; an empty one does not', async () => {
    expect(await run(['build', 'yq'], { FLATCAR_EXT_ARCH: 'foo' })).toMatchObject({ code: 2 });
    const empty = {
      FLATCAR_EXT_ARCH: '',
      FLATCAR_EXT_PROFILE: '',
      FLATCAR_EXT_ORIGIN: '',
      FLATCAR_EXT_RELEASE: '',
      FLATCAR_EXT_MIRROR: '',
    };
    expect((await run(['build', 'nope'], empty)).err).toMatch(/there is no extension 'nope'/);
  });
});

test('in a folder of another checkout it refuses, and names the one to run', async () => {
  const other = join(dir, 'other/packages/cli/bin');
  await mkdir(other, { recursive: true });
  await writeFile(join(other, 'flatcar-ext'), '');
  const { code, err } = await run(['list'], {}, join(dir, 'other/packages'));
  expect(err).toMatch(/the current folder belongs to another checkout[^]*run .*\/other\/packages\/cli\/bin\/flatcar-ext/);
  expect(code).toBe(2);
});

test('a file that is not there, or not what it must be, is told by its name', async () => {
  const missing = await run(['inspect', 'missing.raw']);
  expect(missing).toMatchObject({ code: 1, out: '' });
  expect(missing.err).toMatch(/no such file[^]*at: .*missing\.raw/);
  for (const [args, env] of [
    [['build', 'yq', '--keys', '/nonexistent/keys'], {}],
    [['build', 'yq'], { FLATCAR_EXT_KEYS: '/nonexistent/keys' }],
  ] as const) {
    const { code, err } = await run(args, env);
    expect(err).toMatch(/^error: this folder of keys does not exist\n\s*at: \/nonexistent\/keys/);
    expect(code).toBe(1);
  }
  expect((await run(['diff', 'a.raw', 'b.raw'])).err).toMatch(/no such file[^]*at: .*a\.raw/);
  expect((await run(['inspect', bin])).err).toMatch(/not an image: expected squashfs or a disk image/);
});
