// scripts/torture/torture.ts; `npm run torture` and the night do more. In `npm test` single signals at chosen steps stand for it (interrupt.test.ts,
// kill.test.ts, signals.test.ts).
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';

const repository = resolve(import.meta.dirname, '../../..');

interface Row {
  readonly command: string;
  readonly kills: number;
  readonly broken: readonly string[];
}

/** The output of the script, as far as these tests read it. */
interface Seen {
  readonly kills: readonly Row[];
  readonly signals: readonly Row[];
  readonly others: readonly { readonly what: string; readonly rounds: number; readonly broken: readonly string[] }[];
  readonly skipped: readonly string[];
}

async function torture(...args: readonly string[]): Promise<{ seen: Seen; stderr: string }> {
  const script = join(repository, 'scripts/torture/torture.ts');
  const { stdout, stderr } = await execa(process.execPath, [script, ...args, '--json'], { reject: false });
  return { seen: JSON.parse(stdout) as Seen, stderr };
}

// Each command is ended by SIGINT and SIGTERM at random moments: no process, mount, temporary file or half output may be left, and the next
// run must give what an undisturbed one gives.
test(
  'fifty signals at random moments end each command within two seconds and leave nothing',
  { tags: ['full'], timeout: 7_200_000 },
  async () => {
    const commands = ['build', 'bind', 'publish', 'pin'];
    const { seen, stderr } = await torture(...commands, '--kills', '0', '--signals', '50', '--limit', '2000');
    const broken = seen.signals.flatMap((one) => one.broken);
    // A signal that came after the end does not count.
    const interrupted = seen.signals.filter(({ kills }) => kills >= 25).map(({ command }) => command);
    expect({ broken, interrupted }, stderr).toEqual({ broken: [], interrupted: commands });
  },
);

test('kills, signals and full disks break nothing', { tags: ['full'], timeout: 3_600_000 }, async ({ skip }) => {
  const parts = ['build', 'publish', 'withdraw', 'keys-init', 'pin', 'disks'];
  const limits = ['--kills', '1', '--signals', '1', '--sizes', '1', '--limit', '10000'];
  const { seen, stderr } = await torture(...parts, ...limits);
  const rows = [...seen.kills, ...seen.others];
  expect(
    rows.flatMap(({ broken }) => broken),
    stderr,
  ).toEqual([]);
  expect(seen.kills.map(({ command }) => command)).toEqual(['build', 'publish', 'withdraw', 'pin', 'keys-init']);
  expect(seen.kills.reduce((sum, { kills }) => sum + kills, 0)).toBeGreaterThan(0);
  if (seen.skipped.length > 0) skip(seen.skipped.join('; '));
});
