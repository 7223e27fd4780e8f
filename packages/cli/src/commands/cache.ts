import { UsageError } from '@flatcar/core/engine';
import { InvalidArgumentError, type Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption, type JsonFlag } from '../options.ts';
import { formatBytes } from '@flatcar/core/engine';
import { show, table } from '../output/terminal.ts';

/** Parses the value of an option: a number that is not negative. */
function amount(unit: string): (text: string) => number {
  return (text) => {
    const value = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : NaN;
    if (!Number.isFinite(value)) throw new InvalidArgumentError(`Expected a number of ${unit}, without a unit.`);
    return value;
  };
}

/** `cache`: the store of downloads, tools and results. */
export function addCache(root: Command): void {
  const command = root
    .command('cache')
    .summary('show, prune and verify the store')
    .description('show, prune and verify the store of downloads, tools and build results');
  const stats = command
    .command('stats', { isDefault: true })
    .description('show what the store contains; the default command')
    .allowExcessArguments() // what is not a command arrives here
    .addOption(jsonOption())
    .action(async (flags: JsonFlag, { args: [word] }: Command) => {
      if (word !== undefined) throw new UsageError(`cache has no command '${word}'`, { next: 'use stats, prune or verify' });
      const { openStore } = await import('@flatcar/core/engine');
      const store = openStore();
      show({ root: store.root, kinds: await store.stats() }, flags.json, ({ root: path, kinds }) => {
        const total = {
          kind: 'total',
          entries: kinds.reduce((sum, { entries }) => sum + entries, 0),
          bytes: kinds.reduce((sum, { bytes }) => sum + bytes, 0),
        };
        return `${path}\n\n${table([['kind', 'entries', 'size'], ...[...kinds, total].map(({ kind, entries, bytes }) => [kind, String(entries), formatBytes(bytes)])])}`;
      });
    });
  const prune = command
    .command('prune')
    .description('remove leftovers of killed builds, and what was not used for long')
    .option('--older-than <days>', 'remove what was not used for this number of days', amount('days'))
    .option('--max-size <GiB>', 'then remove what was least recently used, until the rest is no larger than this', amount('GiB'))
    .addOption(jsonOption())
    .action(async (flags: { olderThan?: number; maxSize?: number; json?: boolean }) => {
      const { openStore } = await import('@flatcar/core/engine');
      const { olderThan: days, maxSize: size } = flags;
      const pruned = await openStore().prune({ olderThanDays: days, maxBytes: size === undefined ? undefined : size * 2 ** 30 });
      show(pruned, flags.json, ({ removed, bytes }) => `removed ${removed} entries, ${formatBytes(bytes)}`);
    });
  const verify = command
    .command('verify')
    .description('read the whole store, and remove what is damaged')
    .addOption(jsonOption())
    .action(async (flags: { json?: boolean }) => {
      const { openStore } = await import('@flatcar/core/engine');
      show(await openStore().verify(), flags.json, (damaged) =>
        damaged.length === 0 ? 'nothing is damaged' : damaged.map((path) => `removed ${path}`).join('\n'),
      );
    });
  addHelp(command, { examples: ['flatcar-ext cache', 'flatcar-ext cache prune --older-than 30'] });
  addHelp(stats, { examples: ['flatcar-ext cache stats', 'flatcar-ext cache stats --json'] });
  addHelp(prune, { examples: ['flatcar-ext cache prune --older-than 30', 'flatcar-ext cache prune --max-size 20'] });
  addHelp(verify, { examples: ['flatcar-ext cache verify', 'flatcar-ext cache verify --json'] });
}
