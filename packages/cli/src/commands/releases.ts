import { fileURLToPath } from 'node:url';
import { catalogue, CATALOGUE, catalogueFrom, readReleaseList, RELEASES_URL, type Release } from '@flatcar/core';
import type { Command } from 'commander';
import { show, table } from '../terminal.ts';

const text = (releases: readonly Release[]): string =>
  table([
    ['release', 'channel', 'date', 'kernel', 'systemd', 'glibc', 'era', 'format', 'file systems', 'arch'],
    ...releases.map(({ number, channel, date, kernel, systemd, glibc, atLeast, era, format, filesystems, arches }) => [
      number,
      channel,
      date,
      kernel,
      systemd,
      `${atLeast ? '≥ ' : ''}${glibc}`,
      era,
      format,
      filesystems.join(' '),
      arches.join(' '),
    ]),
  ]);

/** `releases`: the catalogue of Flatcar releases, and its refresh. */
export function addReleases(root: Command): void {
  const command = root
    .command('releases')
    .description('the Flatcar releases that images are bound to')
    .addHelpText('after', '\nExamples:\n  flatcar-ext releases\n  flatcar-ext releases update');
  command
    .command('list', { isDefault: true })
    .description('list them')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  flatcar-ext releases\n  flatcar-ext releases list --json')
    .action((flags: { json?: boolean }) => show(catalogue(), flags.json, text));
  command
    .command('update')
    .description("refresh the catalogue in this repository from Flatcar's official list")
    .option('--from <file|url>', 'another copy of the list', RELEASES_URL)
    .option('--json', 'print the changes as JSON')
    .addHelpText('after', '\nExamples:\n  flatcar-ext releases update\n  flatcar-ext releases update --from releases.json')
    .action(async (flags: { from: string; json?: boolean }) => {
      const { writeAtomic } = await import('@flatcar/core');
      const before = new Set(catalogue().map(({ number }) => number));
      const releases = catalogueFrom(await readReleaseList(flags.from), flags.from);
      const after = new Set(releases.map(({ number }) => number));
      await writeAtomic(fileURLToPath(CATALOGUE), `${JSON.stringify(releases, undefined, 2)}\n`);
      const changes = {
        added: [...after].filter((number) => !before.has(number)),
        dropped: [...before].filter((number) => !after.has(number)),
      };
      show(changes, flags.json, ({ added, dropped }) =>
        added.length + dropped.length === 0
          ? 'nothing changed'
          : [...added.map((number) => `+ ${number}`), ...dropped.map((number) => `- ${number}`)].join('\n'),
      );
    });
}
