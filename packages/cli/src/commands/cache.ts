import { UserError } from '@flatcar/core';
import type { Command } from 'commander';
import { readable, show, table } from '../terminal.ts';

const positive = (text: string | undefined, option: string): number | undefined => {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!(value >= 0)) throw new UserError(`${option} takes a number, not '${text}'`);
  return value;
};

/** `cache`: the store of downloads, tools and results. */
export function addCache(root: Command): void {
  const command = root
    .command('cache')
    .description('the store of downloads, tools and build results')
    .addHelpText('after', '\nExamples:\n  flatcar-ext cache\n  flatcar-ext cache prune --older-than 30\n  flatcar-ext cache verify');
  command
    .command('stats', { isDefault: true })
    .description('what is in it')
    .option('--json', 'print JSON')
    .action(async (flags: { json?: boolean }) => {
      const { openStore } = await import('@flatcar/core');
      const store = openStore();
      show(
        { root: store.root, kinds: await store.stats() },
        flags.json,
        ({ root: path, kinds }) =>
          `${path}\n\n${table([['kind', 'entries', 'size'], ...kinds.map(({ kind, entries, bytes }) => [kind, String(entries), readable(bytes)])])}`,
      );
    });
  command
    .command('prune')
    .description('remove leftovers of killed builds, and what was long unused')
    .option('--older-than <days>', 'remove what was not used for so many days')
    .option('--max-size <GiB>', 'then remove the least recently used until the rest fits')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  flatcar-ext cache prune --older-than 30\n  flatcar-ext cache prune --max-size 20')
    .action(async (flags: { olderThan?: string; maxSize?: string; json?: boolean }) => {
      const { openStore } = await import('@flatcar/core');
      const days = positive(flags.olderThan, '--older-than');
      const size = positive(flags.maxSize, '--max-size');
      const pruned = await openStore().prune({
        ...(days === undefined ? {} : { olderThanDays: days }),
        ...(size === undefined ? {} : { maxBytes: size * 2 ** 30 }),
      });
      show(pruned, flags.json, ({ removed, bytes }) => `removed ${removed} entries, ${readable(bytes)}`);
    });
  command
    .command('verify')
    .description('read everything again and remove what is damaged')
    .option('--json', 'print JSON')
    .action(async (flags: { json?: boolean }) => {
      const { openStore } = await import('@flatcar/core');
      show(await openStore().verify(), flags.json, (damaged) =>
        damaged.length === 0 ? 'everything is whole' : damaged.map((path) => `removed ${path}`).join('\n'),
      );
    });
}
