import { catalogue, CATALOGUE, type Release } from '@flatcar/core/engine';
import { RELEASES_URL } from '@flatcar/upstream/sources/flatcar-releases';
import type { Command } from 'commander';
import { updateCatalogue, type CatalogueChanges } from '@flatcar/workspace/update-catalogue';
import { addHelp } from '../help.ts';
import { jsonOption, type JsonFlag } from '../options.ts';
import { show, table } from '../output/terminal.ts';

const text = (releases: readonly Release[]): string =>
  table([
    ['release', 'channel', 'date', 'kernel', 'systemd', 'glibc', 'merged in', 'format', 'file systems', 'arch'],
    ...releases.map(({ number, channel, date, kernel, systemd, glibc, estimated, mergeStage, format, filesystems, arches }) => [
      number,
      channel,
      date,
      kernel,
      systemd,
      `${estimated ? '≥ ' : ''}${glibc}`,
      mergeStage,
      format,
      filesystems.join(' '),
      arches.join(' '),
    ]),
  ]);

/** What an update of the catalogue changed, a line for each release. */
export function changesText({ added, dropped, changed }: CatalogueChanges): string {
  const lines = [
    ...added.map((number) => `+ ${number}`),
    ...dropped.map((number) => `- ${number}`),
    ...changed.map((number) => `~ ${number} has other data`),
  ];
  return lines.length === 0 ? 'nothing changed' : lines.join('\n');
}

/** `releases`: the catalogue of Flatcar releases, and its refresh. */
export function addReleases(root: Command): void {
  const command = root
    .command('releases')
    .summary('list the Flatcar releases that images are bound to')
    .description('list the Flatcar releases that images are bound to, and update their catalogue');
  const list = command
    .command('list', { isDefault: true })
    .description('list the releases; the default command')
    .addOption(jsonOption())
    .action((flags: JsonFlag) => show(catalogue(), flags.json, text));
  const update = command
    .command('update')
    .description("update the catalogue in this checkout from Flatcar's official list")
    .option('--from <file|url>', 'read this copy of the list', RELEASES_URL)
    .addOption(jsonOption())
    .action(async (flags: JsonFlag & { readonly from: string }) => {
      show(await updateCatalogue(CATALOGUE, flags.from), flags.json, changesText);
    });
  addHelp(command, { examples: ['flatcar-ext releases', 'flatcar-ext releases update'] });
  addHelp(list, { examples: ['flatcar-ext releases', 'flatcar-ext releases list --json'] });
  addHelp(update, { examples: ['flatcar-ext releases update', 'flatcar-ext releases update --from releases.json'] });
}
