import { resolve } from 'node:path';
import * as v from 'valibot';
import { ARCHES, parseJson, UserError, writeAtomic } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { helpText } from '../../help.ts';
import { runStep } from '@flatcar/workspace/ci/run-step';
import { holdBack, type HeldJob } from '@flatcar/workspace/ci/backoff';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import { githubFrom } from '@flatcar/workspace/ci/github';
import { NameSchema, type Job, type Matrix } from '@flatcar/workspace/ci/job';
import { limitJobs, planOutputs } from '@flatcar/workspace/ci/job-limits';
import { writeOutputs } from '@flatcar/workspace/ci/summary';
import { withSecondBuilders } from '@flatcar/workspace/ci/second-builder';
import { REPOSITORY } from '@flatcar/workspace/select';
import { table } from '../../output/terminal.ts';
import { unpublishableLines as changedLines } from '@flatcar/workspace/plan-release';
import { print, stepOutput, tell } from '../../output/output.ts';

interface Flags {
  readonly out: string;
  readonly tree?: string;
  readonly keyring?: string;
  readonly firstPublish?: boolean;
  readonly retry?: boolean;
  readonly secondBuilder: boolean;
}

const Version = { extension: NameSchema, version: v.string() };
/** What `plan --json` prints, as far as jobs are made of it. */
const PlanSchema = v.object({
  payloads: v.array(
    v.object({
      ...Version,
      upstream: v.string(),
      revision: v.number(),
      architecture: v.picklist(ARCHES),
      format: v.picklist(['squashfs', 'ddi']),
    }),
  ),
  images: v.array(
    v.object({
      ...Version,
      architecture: v.picklist(ARCHES),
      format: v.picklist(['squashfs', 'ddi']),
      targets: v.array(v.string()),
      from: v.picklist(['build', 'published']),
    }),
  ),
  stale: v.array(v.object(Version)),
  changed: v.array(v.object({ ...Version, what: v.string(), where: v.string(), next: v.string(), refresh: v.boolean() })),
});

/** What a person reads of the jobs of a plan. */
function text(jobs: readonly Job[], left: number, held: readonly HeldJob[]): string {
  const waiting = held.map(({ job, until, failures }) => `${job.id} is held back until ${until}: it failed ${failures} times`);
  if (jobs.length === 0) return waiting.length === 0 ? 'nothing is missing' : waiting.join('\n');
  return [
    table([
      ['job', 'versions', 'targets', 'payload'],
      ...jobs.map(({ id, versions, targets, from }) => [id, versions, targets, from === 'build' ? 'build' : 'published']),
    ]),
    '',
    `${jobs.filter(({ from }) => from === 'build').length} jobs build (${jobs.filter(({ checks }) => checks !== undefined).length} to check another one), ${jobs.filter(({ from }) => from === 'published').length} only bind`,
    ...(left === 0 ? [] : [`${left} jobs are left for the next run: a workflow takes 256`]),
    ...waiting,
  ].join('\n');
}

/** `ci plan`: plan's matrix in a file, and the outputs of a workflow's step. */
export function addPlan(ci: Command, signal: AbortSignal): void {
  ci.command('plan')
    .description('write the jobs of a release to a file, and to the outputs of a workflow')
    .argument('[extensions...]', 'names (default: all)')
    .option('--out <file>', 'write the matrix to this file', pipelinePath('matrix.json'))
    .option('--tree <where>', 'the published tree: a folder, https://… or s3://bucket/prefix (default: an empty tree)')
    .option('--keyring <file>', 'OpenPGP public keys that verify the published index')
    .option('--first-publish', 'accept a tree without an index: nothing is published there yet')
    .option('--retry', 'include builds that failed recently')
    .option('--no-second-builder', 'compile in one job only, which build records note (default: two jobs compile, and must agree)')
    .addHelpText(
      'after',
      helpText({
        text: [
          'With GITHUB_TOKEN (issues: read), a build that failed is tried again after 1, 2, 4, 8 and 16 hours, then once a day, or as soon as something that it depends on changes. The open issue of the extension records its failures.',
          "A job that compiles has a second one, NAME-ARCHITECTURE-second, which builds the same elsewhere; ci publish accepts neither if they differ. This doubles the runner time of these jobs only: upstream's own binaries are pinned by their digests.",
          'Outputs in a workflow: jobs (matrix of those that build), extensions (names of those that build, JSON), matrices (a matrix for each of them, JSON), and the counts build, bind (jobs that only bind) and all. At most 256 jobs build in one run; the next run takes the rest.',
        ],
        examples: [
          'flatcar-ext ci plan hardening --out matrix.json',
          'flatcar-ext ci plan --tree https://extensions.example.org --keyring keys.gpg --out matrix.json',
        ],
      }),
    )
    .action(async (words: string[], flags: Flags) => {
      const names = words.flatMap((one) => one.split(/\s+/)).filter((one) => one !== '');
      const where = (['tree', 'keyring'] as const).flatMap((key) => (flags[key] === undefined ? [] : [`--${key}`, flags[key]]));
      const first = flags.firstPublish === true ? ['--first-publish'] : [];
      const { error, stdout } = await runStep(['plan', ...names, ...where, ...first, '--json'], signal, { output: stepOutput, json: true });
      if (error !== undefined) throw new UserError('the release cannot be planned', { next: 'the reason is above' });
      const { jobsOf } = await import('@flatcar/publish');
      const plan = parseJson(PlanSchema, stdout, { what: 'output of plan --json', where: 'standard output' });
      const planned = await withSecondBuilders(jobsOf(plan), !flags.secondBuilder);
      const notice = (line: string): void => tell(line);
      for (const line of changedLines(plan)) notice(line);
      for (const { id } of planned.filter(({ second }) => second === 'off'))
        notice(`${id} is compiled, and no second builder checks it (--no-second-builder): its build records say so`);
      const github = flags.retry === true ? undefined : githubFrom(process.env);
      const { jobs: begun, held } = await holdBack(planned, { github, repository: REPOSITORY, workflow: 'release', notice });
      const { jobs, left } = limitJobs(begun);
      await writeAtomic(resolve(flags.out), `${JSON.stringify({ include: [...jobs], held } satisfies Matrix)}\n`);
      print(text(jobs, left, held));
      await writeOutputs(planOutputs(jobs));
      await writePlanSummary(jobs, left, held);
    });
}

async function writePlanSummary(jobs: readonly Job[], left: number, held: readonly HeldJob[]): Promise<void> {
  if ((process.env['GITHUB_STEP_SUMMARY'] ?? '') === '') return;
  const { summary } = await import('@actions/core');
  const builds = jobs.filter(({ from }) => from === 'build').length;
  const rest = left === 0 ? '' : ` ${left} jobs are left for the next run.`;
  const waiting =
    held.length === 0 ? '' : ` ${held.length} are held back: ${held.map(({ job, until }) => `${job.id} until ${until}`).join(', ')}.`;
  await summary
    .addHeading('Plan', 2)
    .addRaw(`${builds} jobs build, ${jobs.length - builds} only bind.${rest}${waiting}`, true)
    .write();
}
