import { access, link, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec } from '@flatcar/core/engine';
import { copyRepository, linkPackages } from '@flatcar/testing/checkout';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';

// `flatcar-ext remove`, in a copy of this repository.
let dir: string;
let checkout: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'remove-'));
  checkout = join(dir, 'repository');
  await copyRepository(checkout);
  await linkPackages(checkout);
  await git('init', '--quiet');
  await git('add', '--all');
  await git('commit', '--quiet', '--message', 'first');
}, 300_000);
afterAll(() => rm(dir, { recursive: true, force: true }));

const git = (...args: string[]): Promise<string> => exec('git', ['-c', 'user.name=t', '-c', 'user.email=t@t', ...args], { cwd: checkout });
const read = (path: string): Promise<string> => readFile(join(checkout, path), 'utf8');
const remove = (...args: string[]): Promise<{ exitCode?: number | undefined; stdout: string; stderr: string }> =>
  execa(join(checkout, 'packages/cli/bin/flatcar-ext'), ['remove', ...args], { cwd: checkout, reject: false, env: { FORCE_COLOR: '0' } });
const isThere = (path: string): Promise<boolean> =>
  access(join(checkout, path)).then(
    () => true,
    () => false,
  );

test('an extension that others name in their definitions is refused, and --force does not change that', async () => {
  const { exitCode, stdout, stderr } = await remove('docker-engine', '--force', '--json');
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
  expect(stderr).toMatch(
    /cannot remove 'docker-engine'[^]*'docker' names 'docker-engine' in conflicts[^]*extensions\/docker\/extension\.ts/,
  );
  expect(await isThere('extensions/docker-engine')).toBe(true);
}, 300_000);

test('an extension with changes that git cannot bring back is refused, unless --force is passed', async () => {
  await writeFile(join(checkout, 'extensions/btop/notes.txt'), 'a thought');
  const { exitCode, stderr } = await remove('btop');
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/changes that are not committed[^]*--force/);
  expect(await isThere('extensions/btop/notes.txt')).toBe(true);
}, 300_000);

test('its folder, its entries in package-lock.json and its row in README.md are removed', async () => {
  const { exitCode, stdout, stderr } = await remove('btop', '--force', '--json');
  expect(exitCode, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ extension: 'btop', changed: ['extensions/btop', 'package-lock.json', 'README.md'] });
  expect(await isThere('extensions/btop')).toBe(false);
  expect(await read('package-lock.json')).not.toMatch(/"(?:node_modules|extensions)\/btop"/);
  expect(await read('README.md')).not.toContain('extensions/btop/');
  // Nothing else is changed, and what is left is a repository that npm accepts.
  const changed = (await git('status', '--porcelain')).split('\n').filter((line) => !line.includes('extensions/btop/'));
  expect(changed.map((line) => line.trim().replace(/^\S+\s+/, '')).toSorted()).toEqual(['README.md', 'package-lock.json']);
  await exec('npm', ['ci', '--dry-run', '--offline', '--no-audit', '--no-fund', '--ignore-scripts'], { cwd: checkout });
}, 300_000);

test('a name that is not an extension is wrong usage', async () => {
  expect(await remove('btpo')).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("there is no extension 'btpo'") as string });
});

test('what is linked with another checkout is replaced, not written to', async () => {
  // As `cp -al` and pnpm-like stores link: the record of what is installed is of each checkout.
  const record = join(checkout, 'node_modules/.installed');
  const other = join(dir, 'installed');
  await link(record, other);
  const before = await readFile(other, 'utf8');
  expect((await remove('yq', '--force')).exitCode).toBe(0);
  expect(await readFile(record, 'utf8')).not.toBe(before);
  expect(await readFile(other, 'utf8')).toBe(before);
}, 300_000);
