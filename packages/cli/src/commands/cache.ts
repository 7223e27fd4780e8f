import { UsageError } from '@flatcar/core/engine';
import { InvalidArgumentError, type Command } from 'commander';
import { formatBytes, show, table } from '../output/terminal.ts';

/** A number that is not negative, as an option gives it. */
function amount(unit: string): (text: string) => number {
  return (text) => {
    const value = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : NaN;
    if (!Number.isFinite(value)) throw new InvalidArgumentError(`It is a number of ${unit}, without a unit.`);
    return value;
  };
}

/** `cache`: the store of downloads, tools and results. */
export function addCache(root: Command): void {
  const command = root
    .command('cache')
    .description('the store of downloads, tools and build results')
    .addHelpText('after', '\nExamples:\n  flatcar-ext cache\n  flatcar-ext cache prune --older-than 30\n  flatcar-ext cache verify');
  command
    .command('stats', { isDefault: true })
    .description('what is in it')
    .allowExcessArguments() // what is not a command arrives here
    .option('--json', 'print JSON')
    .action(async (flags: { json?: boolean }, { args: [word] }: Command) => {
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
  command
    .command('prune')
    .description('remove leftovers of killed builds, and what was long unused')
    .option('--older-than <days>', 'remove what was not used for so many days', amount('days'))
    .option('--max-size <GiB>', 'then remove the least recently used until the rest fits', amount('GiB'))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  flatcar-ext cache prune --older-than 30\n  flatcar-ext cache prune --max-size 20')
    .action(async (flags: { olderThan?: number; maxSize?: number; json?: boolean }) => {
      const { openStore } = await import('@flatcar/core/engine');
      const { olderThan: days, maxSize: size } = flags;
      const pruned = await openStore().prune({
        ...(days === undefined ? {} : { olderThanDays: days }),
        ...(size === undefined ? {} : { maxBytes: size * 2 ** 30 }),
      });
      show(pruned, flags.json, ({ removed, bytes }) => `removed ${removed} entries, ${formatBytes(bytes)}`);
    });
  command
    .command('verify')
    .description('read everything again and remove what is damaged')
    .option('--json', 'print JSON')
    .action(async (flags: { json?: boolean }) => {
      const { openStore } = await import('@flatcar/core/engine');
      show(await openStore().verify(), flags.json, (damaged) =>
        damaged.length === 0 ? 'everything is whole' : damaged.map((path) => `removed ${path}`).join('\n'),
      );
    });
}
