import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { exec } from '@flatcar/core/engine';
import type { CheckedPin } from '@flatcar/upstream';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { locksAt } from '@flatcar/workspace/pin-check';
import { checkText } from '../src/output/pin-check-text.ts';

const bin = resolve(import.meta.dirname, '../bin/flatcar-ext');
let dir: string;
const git = (...args: string[]): Promise<string> => exec('git', ['-c', 'user.name=t', '-c', 'user.email=t@t', ...args], { cwd: dir });
const lock = (proof: string): string => JSON.stringify({ '1.0': { licenses: {}, bytes: { x: { sha256: '0'.repeat(64), proof } } } });
async function commit(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), text);
  }
  await git('add', '--all');
  await git('commit', '--quiet', '--message', 'x');
}
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'locks-'));
  await git('init', '--quiet', '--initial-branch=main');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test('the locks of a base are those of the commit that both sides come from', async () => {
  await commit({
    'extensions/a/pins.json': lock('sha256 list'),
    'packages/components/b/pins.json': lock('sha256 list'),
    'extensions/a/README.md': 'x',
  });
  await git('checkout', '--quiet', '-b', 'change');
  await commit({ 'extensions/a/pins.json': lock('sha256 file'), 'extensions/c/pins.json': lock('two') });
  await git('checkout', '--quiet', 'main');
  await commit({ 'extensions/a/pins.json': lock('sha512 list') });
  await git('checkout', '--quiet', 'change');
  const locks = await locksAt('main', dir);
  expect([...locks.keys()].toSorted()).toEqual([join(dir, 'extensions/a/pins.json'), join(dir, 'packages/components/b/pins.json')]);
  expect(locks.get(join(dir, 'extensions/a/pins.json'))?.['1.0']?.bytes['x']?.proof).toBe('sha256 list');
  await expect(locksAt('no-such-branch', dir)).rejects.toThrow(/git failed/);
});

test('what is as upstream has it is counted; the rest is listed', () => {
  const one = (state: CheckedPin['state']): CheckedPin => ({
    file: 'f',
    version: '1.0',
    component: 'tool',
    locator: 'https://x',
    sha256: '0',
    proof: 'sha256 list',
    state,
    found: 'found',
  });
  const text = checkText([one('same'), one('same'), one('different'), one('unreached'), one('stronger')]);
  expect(text).toContain('5 pins: 3 as upstream has them, 1 different, 1 not reached');
  expect(text.match(/https:\/\/x/g)).toHaveLength(3);
  expect(checkText([])).toBe('no pins to check');
});

test.each([[['pin']], [['pin', '--base', 'main']], [['pin', 'yq@v1']]])('%j is wrong usage', async (args) => {
  expect((await execa(bin, args, { reject: false })).exitCode).toBe(2);
});

test('what did not change is not asked for, and a host that does not answer is no error', async () => {
  const { exitCode, all } = await execa(bin, ['pin', '--check', '--base', 'HEAD', '--mirror', 'http://127.0.0.1:9'], {
    reject: false,
    all: true,
  });
  expect(all).toMatch(/no pins to check|not reached/);
  // A checkout may have changes of a person.
  if (!all.includes('was pinned')) expect(exitCode).toBe(0);
});
