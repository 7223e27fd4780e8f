import { fileURLToPath } from 'node:url';
import { catalogue, CATALOGUE, readCatalogue, writeAtomic, type Release } from '@flatcar/core/engine';
import { catalogueChanges, catalogueFrom, readReleaseList, RELEASES_URL } from '@flatcar/upstream/sources/flatcar-releases';
import type { Command } from 'commander';
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

type Changes = ReturnType<typeof catalogueChanges>;

/** What an update changed, a release a line. */
export function changesText({ added, dropped, changed }: Changes): string {
  const lines = [
    ...added.map((number) => `+ ${number}`),
    ...dropped.map((number) => `- ${number}`),
    ...changed.map((number) => `~ ${number} has other data`),
  ];
  return lines.length === 0 ? 'nothing changed' : lines.join('\n');
}

/** Writes a catalogue from a copy of the official list (a file or a URL), and gives what that changes in it. */
export async function updateCatalogue(file: URL, from: string): Promise<Changes> {
  const releases = catalogueFrom(await readReleaseList(from), from);
  const changes = catalogueChanges(readCatalogue(file), releases);
  await writeAtomic(fileURLToPath(file), `${JSON.stringify(releases, undefined, 2)}\n`);
  return changes;
}

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
      show(await updateCatalogue(CATALOGUE, flags.from), flags.json, changesText);
    });
}
