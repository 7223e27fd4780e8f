// A short run of scripts/torture/torture.ts; `npm run torture` and the night do more.
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';

const repository = resolve(import.meta.dirname, '../../..');

/** What the script prints, as far as it is looked at here. */
interface Seen {
  readonly kills: readonly { readonly command: string; readonly kills: number; readonly broken: readonly string[] }[];
  readonly others: readonly { readonly what: string; readonly rounds: number; readonly broken: readonly string[] }[];
  readonly skipped: readonly string[];
}

test('kills, signals and full disks break nothing', { tags: ['full'], timeout: 3_600_000 }, async ({ skip }) => {
  const parts = ['build', 'publish', 'withdraw', 'keys-init', 'pin', 'disks'];
  const limits = ['--kills', '1', '--signals', '1', '--sizes', '1', '--limit', '10000'];
  const script = join(repository, 'scripts/torture/torture.ts');
  const { stdout, stderr } = await execa(process.execPath, [script, ...parts, ...limits, '--json'], { reject: false });
  const seen = JSON.parse(stdout) as Seen;
  const rows = [...seen.kills, ...seen.others];
  expect(
    rows.flatMap(({ broken }) => broken),
    stderr,
  ).toEqual([]);
  expect(seen.kills.map(({ command }) => command)).toEqual(['build', 'publish', 'withdraw', 'pin', 'keys-init']);
  expect(seen.kills.reduce((sum, { kills }) => sum + kills, 0)).toBeGreaterThan(0);
  if (seen.skipped.length > 0) skip(seen.skipped.join('; '));
});
