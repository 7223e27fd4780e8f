import { UsageError, UserError } from '@flatcar/core/engine';
import type { Command } from 'commander';
import type { Outcome } from '@flatcar/workspace/ci/outcome';
import { writeSummary } from '@flatcar/workspace/ci/summary';
import { addHelp } from '../../help.ts';
import { summaryOf } from '../../output/outcome-table.ts';
import { print, stepOutput } from '../../output/output.ts';
import { table } from '../../output/terminal.ts';
import { failedOf, namesIn, outcomesOption } from './options.ts';

interface Flags {
  readonly outcomes: string;
  readonly limit: string;
  readonly automerge?: boolean;
  readonly dryRun?: boolean;
}

/** Milliseconds of `--limit`. */
function limitOf(text: string): number {
  const minutes = Number(text);
  if (!(minutes > 0 && minutes <= 24 * 60))
    throw new UsageError(`'${text}' is not a valid time limit`, { where: '--limit', next: 'pass minutes, such as 30' });
  return minutes * 60_000;
}

/** `ci update`: newer versions of each extension by itself. */
export function addUpdate(ci: Command, signal: AbortSignal): void {
  const command = ci
    .command('update')
    .description('pin the newest versions of each extension by itself, and open a pull request for each')
    .argument('[extensions...]', 'names (default: all, and the Flatcar releases)')
    .addOption(outcomesOption())
    .option('--limit <minutes>', 'time limit of each extension', '30')
    .option('--automerge', 'let GitHub merge patch releases that change nothing else')
    .option('--dry-run', 'list the steps')
    .action(async (words: string[], flags: Flags) => {
      const limit = limitOf(flags.limit);
      const automerge = flags.automerge === true || process.env['UPDATE_AUTOMERGE'] === 'true';
      const [{ updateExtensions, updateSteps }, { githubFrom }] = await Promise.all([
        import('@flatcar/workspace/ci/update'),
        import('@flatcar/workspace/ci/github'),
      ]);
      const steps = await updateSteps(namesIn(words), automerge);
      if (flags.dryRun === true)
        return print(table([['step', 'command'], ...steps.map(({ name, args }) => [name, `flatcar-ext ${args.join(' ')}`])]));
      const outcomes: Outcome[] = [];
      const options = {
        github: githubFrom(process.env),
        base: process.env['GITHUB_REF_NAME'] || 'main',
        automerge,
        limit,
        outcomes: flags.outcomes,
        output: stepOutput,
        done: (outcome: Outcome) => outcomes.push(outcome),
      };
      try {
        await updateExtensions(steps, options, signal);
      } finally {
        await writeSummary('Updates', outcomes);
        print(summaryOf(outcomes));
      }
      const failed = failedOf(outcomes);
      if (failed.length > 0) throw new UserError(`could not be updated: ${failed.join(', ')}`, { next: 'the next run tries again' });
    });
  addHelp(command, {
    text: [
      "With GITHUB_TOKEN and the rest of a workflow's environment, pull requests are opened from branches update/<name>; elsewhere the changes stay in the checkout. Only extensions/, packages/ and README.md are proposed, and each step starts from a clean checkout. A branch is pushed only if its change differs, and never over commits of somebody else. A pull request that was closed stays closed until there are other versions. Locks that extensions share change in one pull request.",
      "The token is used for git push and for pull requests. Child processes get neither the token nor any key: they read upstream's releases through a port of this machine, which forwards GET requests with the token.",
      '--automerge accepts a patch release with proofs no weaker than before and the same files, units and host requirements; it builds the images before and after. It needs auto-merge in the settings of the repository, and required checks on the branch.',
    ],
    environment: { UPDATE_AUTOMERGE: 'true is the same as --automerge' },
    examples: ['flatcar-ext ci update kubernetes', 'flatcar-ext ci update --outcomes /tmp/outcomes --limit 60'],
  });
}
