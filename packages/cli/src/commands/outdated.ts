import { relative } from 'node:path';
import { UserErrors } from '@flatcar/core/engine';
import type { Outdated } from '@flatcar/upstream';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { groupFailures } from '../output/group-failures.ts';
import { loadAll } from '@flatcar/workspace/select';
import { jsonOption, mirrorOption } from '../options.ts';
import { reporter } from '../output/reporter.ts';
import { show, table } from '../output/terminal.ts';
import { openUpstream } from '@flatcar/workspace/open-upstream';

/** Days since a release. */
function age(released: string | undefined): string {
  if (released === undefined) return '-';
  const days = Math.max(Math.floor((Date.now() - Date.parse(released)) / 86_400_000), 0);
  return `${days} day${days === 1 ? '' : 's'}`;
}

/** The table of `outdated`, with a row for each upstream that could not be reached. */
export function outdatedText({ rows, errors }: Outdated): string {
  // Each version would have a row for its packages even if they are current.
  const shown = rows.filter(({ packages, outdated }) => packages === undefined || outdated);
  const lines = shown.map(({ extension, of, lead, current, newest, outdated, released, packages, source }) => [
    extension,
    of === 'version' ? '' : `${of} (with ${lead})`,
    current ?? '-',
    newest ?? '-',
    age(released),
    outdated ? 'outdated' : '',
    packages === undefined ? source : `${source}: ${packages.map(({ name, to }) => `${name} ${to}`).join(', ')}`,
  ]);
  const unknown = errors.map(({ extension, of, current, source }) => [
    extension,
    of === 'version' ? '' : of,
    current ?? '-',
    '?',
    '-',
    'not reached',
    source,
  ]);
  const all = [...lines, ...unknown].toSorted(([a = ''], [b = '']) => (a < b ? -1 : a > b ? 1 : 0));
  return table([['extension', 'part', 'current', 'newest', 'age', 'state', 'source'], ...all]);
}

/** `outdated`: what is pinned against what upstream offers. */
export function addOutdated(root: Command, signal: AbortSignal): void {
  const command = root
    .command('outdated')
    .summary('compare pinned versions with the newest of upstream')
    .description('compare pinned versions with the newest that upstream offers in each kept branch')
    .argument('[extensions...]', 'names (default: all)')
    .addOption(mirrorOption())
    .addOption(jsonOption())
    .action(async (names: string[], flags: { mirror?: string; json?: boolean }) => {
      const { findOutdated } = await import('@flatcar/upstream');
      const extensions = await loadAll(names);
      const { report, done } = await reporter();
      const outdated = await findOutdated(extensions, openUpstream(report, signal, flags.mirror));
      done();
      show(outdated, flags.json, outdatedText);
      if (outdated.errors.length === 0) return;
      const failures = outdated.errors.map(({ place, source, error, next }) => ({
        error,
        where: `${relative(process.cwd(), place)} (${source})`,
        next,
      }));
      throw new UserErrors(
        `${outdated.errors.length} version ${outdated.errors.length === 1 ? 'source' : 'sources'} could not be reached`,
        groupFailures(failures),
      );
    });
  addHelp(command, {
    text: [
      'The age is that of the newest version, if upstream publishes its date. Debian packages are compared one by one, libraries included: a fixed library is a higher revision of the same version.',
      'Exits with 1 if an upstream cannot be reached.',
    ],
    environment: {
      GITHUB_TOKEN: 'raises the rate limit of GitHub',
      GITLAB_TOKEN: 'raises the rate limit of GITLAB_HOST (default: gitlab.com)',
    },
    examples: ['flatcar-ext outdated', 'flatcar-ext outdated kubernetes --json'],
  });
}
