import { join, relative } from 'node:path';
import { exec, findExtensions, messageOf } from '@flatcar/core';
import type { Command } from 'commander';
import { attempt, outcomeOf } from '../../ci/attempt.ts';
import type { Outcome } from '../../ci/outcome.ts';
import { summaryOf, writeSummary } from '../../ci/summary.ts';
import { REPOSITORY } from '../../options.ts';

/** A pull request for what a step changed, and a clean checkout for the next; undefined when all went well. */
async function proposeChanges(name: string, title: string): Promise<undefined> {
  const { githubFrom } = await import('../../ci/issues.ts');
  const github = githubFrom(process.env);
  if (github === undefined) return undefined;
  const { propose } = await import('../../ci/propose.ts');
  const head = await exec('git', ['rev-parse', 'HEAD'], { cwd: REPOSITORY });
  try {
    const url = await propose({ ...github, server: process.env['GITHUB_SERVER_URL'] ?? '' }, REPOSITORY, {
      branch: `update/${name}`,
      title,
      body: `Pinned by \`flatcar-ext\`: every digest, and by what it was checked, is in the change. Run: ${github.run}`,
      base: process.env['GITHUB_REF_NAME'] ?? 'main',
    });
    console.error(url === undefined ? `${name}: nothing new` : `${name}: ${url}`);
  } finally {
    // Locks that failed half-way are not the next one's to propose.
    await exec('git', ['checkout', '--force', '--detach', head], { cwd: REPOSITORY });
    await exec('git', ['clean', '--force', '-d', '--quiet', 'extensions', 'packages'], { cwd: REPOSITORY });
  }
  return undefined;
}

/** `ci update`: newer versions of each extension by itself. */
export function addUpdate(ci: Command, signal: AbortSignal): void {
  ci.command('update')
    .description('bump each extension by itself to what upstream has now; in a workflow, a pull request for each')
    .argument('[extensions...]', 'names; all unless said')
    .option('--outcomes <dir>', 'where outcomes go, for report', 'outcomes')
    .addHelpText(
      'after',
      "\nExamples:\n  flatcar-ext ci update kubernetes\n\nWith GITHUB_TOKEN and the rest of a workflow's environment it opens pull requests; elsewhere the changes stay in the checkout.",
    ) // prettier-ignore
    .action(async (words: string[], flags: { outcomes: string }) => {
      const names = words.flatMap((one) => one.split(/\s+/)).filter((one) => one !== '');
      const { writeOutcome } = await import('../../ci/outcome.ts');
      const all = (await findExtensions(REPOSITORY)).map((one) => relative(join(REPOSITORY, 'extensions'), one));
      const outcomes: Outcome[] = [];
      const steps = [
        ...(names.length > 0 ? [] : [{ name: 'releases', args: ['releases', 'update'], title: 'Flatcar releases' }]),
        ...(names.length > 0 ? names : all).map((name) => ({ name, args: ['bump', name, '--no-diff'], title: `${name}: newer versions` })),
      ];
      for (const { name, args, title } of steps) {
        let error = await attempt(args, signal);
        if (error === undefined) error = await proposeChanges(name, title).catch((thrown: unknown) => messageOf(thrown));
        const outcome = outcomeOf('update', name, '', error);
        outcomes.push(outcome);
        await writeOutcome(flags.outcomes, outcome);
      }
      await writeSummary('Updates', outcomes);
      console.log(summaryOf(outcomes));
    });
}
