import { join, resolve } from 'node:path';
import { exec, writeAtomic } from '@flatcar/core';
import type { Command } from 'commander';
import { passedOn } from '../../ci/attempt.ts';
import { MatrixSchema, parseJson } from '../../ci/job.ts';
import { REPOSITORY } from '../../options.ts';

/** `ci plan`: plan's matrix in a file, and the outputs of a workflow's step. */
export function addPlan(ci: Command): void {
  ci.command('plan')
    .description("plan's matrix in a file, and for a workflow its outputs: jobs (those that build), build and all (how many)")
    .argument('[extensions...]', 'names; all unless said')
    .requiredOption('--out <file>', 'where the matrix goes')
    .option('--published <where>', 'the published tree')
    .option('--keyring <file>', 'by which the published index is verified')
    .addHelpText(
      'after',
      '\nExamples:\n  flatcar-ext ci plan --published https://extensions.example.org --keyring keys.gpg --out matrix.json',
    )
    .action(async (words: string[], flags: { out: string; published?: string; keyring?: string }) => {
      const names = words.flatMap((one) => one.split(/\s+/)).filter((one) => one !== '');
      const where = ['published', 'keyring'] as const;
      const args = ['plan', ...names, ...where.flatMap((key) => (flags[key] === undefined ? [] : [`--${key}`, flags[key]]))];
      const program = join(REPOSITORY, 'packages/cli/bin/flatcar-ext');
      const said = await exec(program, [...args, '--matrix'], { env: passedOn() });
      const { include } = parseJson(MatrixSchema, said, 'the plan');
      await writeAtomic(resolve(flags.out), `${said}\n`);
      const jobs = include.filter(({ from }) => from === 'build');
      console.log(await exec(program, args, { env: passedOn() }));
      if (process.env['GITHUB_OUTPUT'] === undefined) return;
      const { setOutput, summary } = await import('@actions/core');
      setOutput('jobs', JSON.stringify({ include: jobs }));
      setOutput('build', jobs.length);
      setOutput('all', include.length);
      summary.addHeading('Plan', 2).addRaw(`${jobs.length} jobs build, ${include.length - jobs.length} only bind.`, true);
      await summary.write();
    });
}
