import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { cacheRoot, exec, findExtensions } from '@flatcar/core';
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
    Object.entries(process.env).filter(([key]) => !/^(?:GITHUB_|FLATCAR_EXT_|FORCE_COLOR|TURBO_)/.test(key)),
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

test('ci test: the extensions that a change has an effect on, and all of them for a change of what they stand on', async () => {
  expect(await ci(['test', '--base', 'HEAD', '--dry-run'])).toMatchObject({ exitCode: 0, all: 'no extension is affected' });
  await commit('extensions/ripgrep/README.md');
  expect(await ci(['test', '--base', 'HEAD~1', '--dry-run'])).toMatchObject({ exitCode: 0, all: 'extensions/ripgrep' });
  await commit('docs/security.md');
  expect(await ci(['test', '--base', 'HEAD~1', '--dry-run'])).toMatchObject({ exitCode: 0, all: 'no extension is affected' });
  await commit('packages/core/src/arch.ts');
  const { all } = await ci(['test', '--base', 'HEAD~1', '--dry-run']);
  expect(all.split('\n')).toEqual((await findExtensions(checkout)).map((one) => relative(checkout, one)).toSorted());
  expect((await ci(['test', '--base', 'no-such-branch', '--dry-run'])).exitCode).toBe(1);
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
