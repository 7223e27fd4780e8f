import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { cacheRoot, exec } from '@flatcar/core';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readOutcomes } from '../src/ci/outcome.ts';

// Steps of the workflows that change a checkout, or ask git what changed: in a copy of this repository.
const repository = resolve(import.meta.dirname, '../../..');
let checkout: string;
let dir: string;

const git = (...args: string[]): Promise<string> => exec('git', ['-c', 'user.name=t', '-c', 'user.email=t@t', ...args], { cwd: checkout });
const commit = async (file: string): Promise<void> => {
  await writeFile(join(checkout, file), `${await readFile(join(checkout, file), 'utf8')}\n`);
  await git('commit', '--quiet', '--all', '--message', file);
};
async function ci(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ exitCode?: number | undefined; all: string }> {
  const plain = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^(?:GITHUB_|FLATCAR_EXT_(?!RELEASES$)|FORCE_COLOR|TURBO_)/.test(key)),
  );
  return execa(join(checkout, 'packages/cli/bin/flatcar-ext'), ['ci', ...args], {
    cwd: dir, all: true, reject: false, extendEnv: false,
    env: { ...plain, PATH: `${join(checkout, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}`, FLATCAR_EXT_CACHE: cacheRoot(), ...env },
  }); // prettier-ignore
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'checkout-'));
  checkout = join(dir, 'repository');
  await mkdir(checkout);
  // Changes that are not committed are in it; installed packages are links, which nothing writes into.
  const copy = `git ls-files -co --exclude-standard -z | tar --null --ignore-failed-read -T - -cf - | tar -xf - -C "$1"; cp -al node_modules "$1"; cp -al scripts/toolchain/node_modules "$1/scripts/toolchain"`;
  await exec('sh', ['-euc', copy, 'sh', checkout], { cwd: repository });
  await git('init', '--quiet');
  await git('add', '--all');
  await git('commit', '--quiet', '--message', 'first');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test('ci test: what every change must pass, and all tests of what a change has an effect on', async () => {
  const listed = async (base: string): Promise<string[]> => {
    const { exitCode, all } = await ci(['test', '--base', base, '--dry-run']);
    expect(exitCode, all).toBe(0);
    const [usual, ...more] = all.split('\n');
    expect(usual).toBe('what every change must pass: unit, docs, merge, machine, without tests of the tag full');
    return more;
  };
  expect(await listed('HEAD')).toEqual([]);
  await commit('extensions/ripgrep/README.md');
  expect(await listed('HEAD~1')).toEqual(['everything else of extensions/ripgrep/: merge, tests of the tag full']);
  await commit('docs/security.md');
  expect(await listed('HEAD~1')).toEqual([]);
  // The small extensions stand for all that core builds; core has merge tests of its own, and knows other distributions.
  await commit('packages/core/src/debian.ts');
  expect(await listed('HEAD~1')).toEqual(['everything else of packages/core/: merge, tests of the tag full', 'ubuntu: ubuntu']);
  await commit('packages/components/src/index.ts');
  const [users = ''] = await listed('HEAD~1');
  expect(users).toMatch(/^everything else of extensions\/.* extensions\/kubernetes\/ .* packages\/components\/: merge/);
  expect(users).not.toContain('extensions/yq/');
  await commit('.github/workflows/ci.yml');
  expect(await listed('HEAD~1')).toEqual(['workflows: workflows']);
  const unknown = await ci(['test', '--base', 'no-such-branch', '--dry-run']);
  expect(unknown).toMatchObject({ exitCode: 1, all: expect.stringContaining("there is no commit 'no-such-branch'") as string });
}, 300_000);

test('ci update: each by itself; one whose upstream cannot be reached holds back no other, and leaves the checkout as it was', async () => {
  // Nobody listens there: kubernetes has an upstream to ask, extension-stager has none.
  const { exitCode, all } = await ci(['update', ' kubernetes  extension-stager ', '--outcomes', join(dir, 'outcomes')], { FLATCAR_EXT_MIRROR: 'http://127.0.0.1:9' }); // prettier-ignore
  expect(exitCode, all).toBe(0);
  const { outcomes } = await readOutcomes(join(dir, 'outcomes'));
  expect(outcomes.map(({ step, extension, ok }) => `${step} ${extension} ${ok}`).toSorted()).toEqual([
    'update extension-stager true',
    'update kubernetes false',
  ]);
  expect(outcomes.find(({ ok }) => !ok)?.error).toContain('cannot be reached');
  expect(await git('status', '--short')).toBe('');
}, 600_000);
