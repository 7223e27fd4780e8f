// @module-tag full
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';

const repository = join(import.meta.dirname, '../../..');

// Minutes where nothing is in the store: the seeds are made by the pinned tools.
test('no reader hangs, crashes or takes all memory in a few seconds of mutated inputs', { timeout: 1_800_000 }, async () => {
  const { exitCode, stdout, stderr } = await execa(process.execPath, ['scripts/fuzz/fuzz.ts', '--seconds', '3', '--jobs', '2', '--json'], {
    cwd: repository,
    reject: false,
  });
  expect(stdout, stderr).not.toBe('');
  const results = JSON.parse(stdout) as { reader: string; inputs: number; seed: number; found: readonly object[] }[];
  expect(results.filter(({ found }) => found.length > 0)).toEqual([]);
  expect(results.map(({ reader }) => reader)).toEqual(
    expect.arrayContaining(['elf', 'squashfs', 'erofs', 'disk', 'packages', 'pins', 'index', 'sigstore']),
  );
  expect(results.filter(({ inputs }) => inputs < 10)).toEqual([]);
  expect(exitCode).toBe(0);
});
