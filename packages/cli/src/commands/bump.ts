import { imageVersion, UsageError, UserErrors } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import type { BumpOutcome } from '@flatcar/workspace/bump';
import { REPOSITORY } from '@flatcar/workspace/select';
import { openUpstream } from '@flatcar/workspace/open-upstream';
import { groupFailures } from '../output/group-failures.ts';
import { differenceText } from '../output/difference-text.ts';
import { jsonOption, mirrorOption } from '../options.ts';
import { reporter } from '../output/reporter.ts';
import { show, table } from '../output/terminal.ts';

interface Flags {
  readonly all?: boolean;
  readonly dryRun?: boolean;
  readonly diff: boolean;
  readonly keepOld?: boolean;
  readonly mirror?: string;
  readonly json?: boolean;
}

const relativePath = (path: string): string => path.replace(`${REPOSITORY}/`, '');

/** What to do after versions were pinned. */
function nextSteps(done: readonly BumpOutcome[]): string[] {
  const names = [...new Set(done.flatMap((one) => ('pinned' in one ? [one.extension] : [])))];
  if (names.length === 0) return [];
  const folders = names.map((name) => `extensions/${name}`);
  return [
    [
      'Next:',
      `  flatcar-ext build ${names.join(' ')} --arch x86-64,arm64`,
      `  npx vitest run --project merge ${folders.join(' ')}      merges ${names.length === 1 ? 'it' : 'them'} (needs root)`,
      `  git add ${folders.join(' ')} README.md && git commit`,
    ].join('\n'),
  ];
}

/** What a person reads of a run: of each bump its pins, its files and what changes in the image, then the next steps. */
export function bumpText(done: readonly BumpOutcome[], isAll: boolean): string {
  if (done.length === 0) return isAll ? 'everything is up to date' : 'nothing is outdated among the extensions that could be checked';
  const shown = done.map((one) => {
    if (!('pinned' in one)) {
      const coupled = Object.entries(one.coupled).map((pair) => pair.join(' '));
      const packages = (one.packages ?? []).map(({ name, to }) => `${name} ${to}`);
      const to = [one.from === one.version ? 'a revision' : one.version, ...coupled, ...packages];
      return `${one.extension} ${one.from ?? '(new branch)'} → ${to.join(', ')}`;
    }
    const { pinned, changes, dropped, written, removed, difference, noDifference } = one;
    const rows = pinned.lines.map(({ component, change, locator, proof }) => [component, change, locator, proof]);
    return [
      `${one.extension} ${one.from ?? '(new branch)'} → ${imageVersion(one.version, pinned.revision)}`,
      ...changes.map((change) => `  ${change}`),
      table([['component', 'pin', 'what', 'checked by'], ...rows]),
      ...(dropped.length === 0 ? [] : [`not kept any more: ${dropped.join(', ')}`]),
      ...written.map((file) => `wrote ${relativePath(file)}`),
      ...removed.map((folder) => `deleted ${relativePath(folder)}`),
      '',
      difference === undefined ? `what changes in the image: not shown (${noDifference ?? ''})` : differenceText(difference),
    ].join('\n');
  });
  return [...shown, ...nextSteps(done)].join('\n\n');
}

/** `bump`: newer versions, pinned. */
export function addBump(root: Command, signal: AbortSignal): void {
  const command = root
    .command('bump')
    .summary('pin newer versions')
    .description('pin newer versions for both architectures, with the components that are coupled to them')
    .argument('[extensions...]', 'NAME (the newest version of each kept branch), or NAME@VERSION')
    .option('--all', 'bump all extensions that are outdated')
    .option('--dry-run', 'list what would be bumped, and change nothing')
    .option('--no-diff', 'do not build the images before and after to compare them')
    .option('--keep-old', 'leave versions in pins.json that the policy does not keep')
    .addOption(mirrorOption())
    .addOption(jsonOption())
    .action(async (names: string[], flags: Flags) => {
      if (names.length > 0 === (flags.all === true))
        throw names.length > 0
          ? new UsageError('--all takes no names', { next: 'leave out the names, or --all' })
          : new UsageError('no extension was named', { next: 'name some, or pass --all; flatcar-ext outdated lists what is outdated' });
      const { bump } = await import('@flatcar/workspace/bump');
      const { report, done } = await reporter();
      const context = openUpstream(report, signal, flags.mirror);
      const { outcomes, failures, count } = await bump(names, flags, context).finally(done);
      show(outcomes, flags.json, (all) => bumpText(all, failures.length === 0));
      if (failures.length === 0) return;
      const grouped = failures.map(({ word, error: { message, where, next } }) => ({
        error: message,
        where: where === undefined ? word : `${word}: ${relativePath(where)}`,
        next,
      }));
      throw new UserErrors(`${failures.length} of ${count} extensions could not be bumped`, groupFailures(grouped));
    });
  addHelp(command, {
    text: [
      'Writes pins.json, CHANGELOG.md and README.md of the extension, and compares the images before and after. What a version shares with a pinned one is not fetched again. If an extension fails, nothing of it is written, and the others are bumped.',
    ],
    examples: ['flatcar-ext bump kubernetes', 'flatcar-ext bump kubernetes@1.36.5', 'flatcar-ext bump --all --dry-run'],
  });
}
