import { envOf } from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import type { JobPlan } from '@flatcar/workspace/ci/plan';
import { writeOutputs, writePlanSummary } from '@flatcar/workspace/ci/summary';
import { treeTrust } from '@flatcar/workspace/given-keys';
import type { PlanTree } from '@flatcar/workspace/plan-release';
import { addHelp } from '../../help.ts';
import { print, tell } from '../../output/output.ts';
import { table } from '../../output/terminal.ts';
import { rootOption } from '../../published.ts';
import { namesIn } from './options.ts';

interface Flags {
  readonly out: string;
  readonly tree?: string;
  readonly root?: string;
  readonly firstPublish?: boolean;
  readonly retry?: boolean;
  readonly secondBuilder: boolean;
}

/** What a person reads of the jobs of a plan. */
function text({ jobs, left, held }: JobPlan): string {
  const waiting = held.map(({ job, until, failures }) => `${job.id} is held back until ${until}: it failed ${failures} times`);
  if (jobs.length === 0) return waiting.length === 0 ? 'nothing is missing' : waiting.join('\n');
  const building = jobs.filter(({ from }) => from === 'build');
  const checking = jobs.filter(({ checks }) => checks !== undefined);
  return [
    table([
      ['job', 'versions', 'targets', 'payload'],
      ...jobs.map(({ id, versions, targets, from }) => [
        id,
        versions.join(' '),
        targets.join(', '),
        from === 'build' ? 'build' : 'published',
      ]),
    ]),
    '',
    `${building.length} jobs build (${checking.length} to check another one), ${jobs.length - building.length} only bind`,
    ...(left === 0 ? [] : [`${left} jobs are left for the next run: a workflow takes 256`]),
    ...waiting,
  ].join('\n');
}

async function treeOf({ tree, root, firstPublish }: Flags): Promise<PlanTree | undefined> {
  if (tree === undefined) return undefined;
  return { where: tree, trust: await treeTrust({ root, keys: envOf('FLATCAR_EXT_KEYS') }), firstPublish };
}

/** `ci plan`: the jobs of a release in a file, and in the outputs of a workflow's step. */
export function addPlan(ci: Command): void {
  const command = ci
    .command('plan')
    .description('write the jobs of a release to a file, and their matrix to the outputs of a workflow')
    .argument('[extensions...]', 'names (default: all)')
    .option('--out <file>', 'write the matrix there', pipelinePath('matrix.json'))
    .addOption(new Option('--tree <where>', 'the published tree: a folder or a URL').default(undefined, 'an empty tree'))
    .addOption(rootOption())
    .option('--first-publish', 'accept a tree without an index: nothing is published there yet')
    .option('--retry', 'start builds that failed not long ago, too')
    .option('--no-second-builder', 'compile in one job only, and record that; by default two jobs compile and must agree')
    .action(async (words: string[], flags: Flags) => {
      const [{ planJobs, writeMatrix }, { githubFrom }] = await Promise.all([
        import('@flatcar/workspace/ci/plan'),
        import('@flatcar/workspace/ci/github'),
      ]);
      const github = flags.retry === true ? undefined : githubFrom(process.env);
      const options = { tree: await treeOf(flags), secondBuilder: flags.secondBuilder, github, notice: tell };
      const plan = await planJobs(namesIn(words), options);
      await writeMatrix(flags.out, plan);
      print(text(plan));
      const { planOutputs } = await import('@flatcar/workspace/ci/job-limits');
      await writeOutputs(planOutputs(plan.jobs));
      await writePlanSummary(plan);
    });
  addHelp(command, {
    text: [
      'With GITHUB_TOKEN (issues: read) a build that failed is started again after 1, 2, 4, 8 and 16 hours, then once a day, until something that it depends on changes. The open issue of the extension records its failures.',
      'A job that compiles has a second one, NAME-ARCHITECTURE-second, which builds the same on another machine; ci publish accepts neither if they differ. This doubles the runner time of these jobs only: binaries of upstream are pinned by digest.',
      'Outputs in a workflow: jobs (matrix of the jobs that build), extensions (their names, JSON), matrices (a matrix for each of them, JSON), and the counts build, bind (jobs that only bind) and all. At most 256 jobs build in one run; the next run takes the rest.',
    ],
    examples: [
      'flatcar-ext ci plan hardening --out matrix.json',
      'flatcar-ext ci plan --tree https://extensions.example.org --root root.json --out matrix.json',
    ],
  });
}
