import { resolve } from 'node:path';
import { UserError } from '@flatcar/core';
import type { Command } from 'commander';
import { summaryOf, writeSummary } from '../../ci/summary.ts';
import { show } from '../../terminal.ts';

/** `ci report`: how all steps went, and the issues of what fails. */
export function addReport(ci: Command): void {
  ci.command('report')
    .description('say how all went; in a workflow on its page, and with one issue for each extension that fails')
    .argument('<dir>', 'where the outcomes are')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      "\nEnds with 1 when anything failed. With GITHUB_TOKEN and the rest of a workflow's environment it opens, updates and closes issues.\n\nExamples:\n  flatcar-ext ci report outcomes",
    ) // prettier-ignore
    .action(async (dir: string, flags: { json?: boolean }) => {
      const { readOutcomes } = await import('../../ci/outcome.ts');
      const { githubFrom, syncIssues } = await import('../../ci/issues.ts');
      const { outcomes, rejected } = await readOutcomes(resolve(dir));
      for (const { file, why } of rejected) console.error(`${file} does not count: ${why}`);
      show(outcomes, flags.json, summaryOf);
      await writeSummary('All', outcomes);
      const github = githubFrom(process.env);
      if (github !== undefined)
        for (const { extension, action } of await syncIssues(github, outcomes)) console.error(`issue of ${extension}: ${action}`);
      const failed = new Set(outcomes.filter(({ ok }) => !ok).map(({ extension }) => extension));
      if (failed.size > 0) throw new UserError(`failed: ${[...failed].join(', ')}`, { next: 'the next run tries them again' });
    });
}
