import { join } from 'node:path';
import { openStore, UsageError, UserError, withoutSecrets } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { helpText } from '../../help.ts';
import { attempt } from '@flatcar/workspace/ci/run-step';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import { parseJob, readMatrix, type Job } from '@flatcar/workspace/ci/job';
import { jobOutcome, writeOutcome, type Outcome } from '@flatcar/workspace/ci/outcome';
import { writeSummary } from '@flatcar/workspace/ci/summary';
import { stepOutput, tell } from '../../output/output.ts';
import { withFreshStore } from '@flatcar/workspace/fresh-store';

interface Flags {
  readonly job?: string;
  readonly matrix?: string;
  readonly out?: string;
  readonly built: string;
  readonly outcomes?: string;
  readonly origin: string;
}

/** Where a job's payloads go: for an artifact of one job, or beside those of others as `ci publish` finds them. */
function foldersOf({ id }: Job, flags: Flags): { out: string; outcomes: string } {
  if (flags.matrix === undefined)
    return { out: flags.out ?? pipelinePath('payloads'), outcomes: flags.outcomes ?? pipelinePath('outcomes') };
  const dir = join(flags.built, `payload-${id}`);
  return { out: join(dir, 'payloads'), outcomes: join(dir, 'outcomes') };
}

/**
 * Builds as a second builder: with nothing that another build left in the store, below another path, under another umask and in another time zone,
 * wherever it runs.
 */
async function buildElsewhere(args: readonly string[], signal: AbortSignal): Promise<string | undefined> {
  const umask = process.umask(0o077);
  try {
    return await withFreshStore(openStore(), async ({ root }) =>
      attempt(args, signal, { output: stepOutput, env: { ...withoutSecrets(), FLATCAR_EXT_CACHE: root, TZ: 'Pacific/Chatham' } }),
    );
  } finally {
    process.umask(umask);
  }
}

/** `ci build`: the payloads of one job, or of all jobs of a matrix. */
export function addBuild(ci: Command, signal: AbortSignal): void {
  ci.command('build')
    .description('build the payloads of jobs that ci plan wrote')
    .option('--job <json>', 'build this job, an entry of `include` of the matrix')
    .option('--matrix <file>', 'build all jobs of this file, one after the other')
    .option('--out <dir>', 'with --job: write payloads to this folder (default: payloads)')
    .option('--outcomes <dir>', 'with --job: write the outcome to this folder (default: outcomes)')
    .option('--built <dir>', 'with --matrix: write a folder payload-<id>/ for each job, which ci publish reads', pipelinePath('built'))
    .option('--origin <kind>', 'passed to build', 'upstream')
    .addHelpText(
      'after',
      helpText({
        text: [
          'Only payloads are kept, in <out>/<extension>/payload/: ci bind and ci publish make images from them. Builds get no key of the environment. In GitHub Actions folders default to $RUNNER_TEMP. A second builder (NAME-ARCHITECTURE-second) shares downloads with the store, and no results.',
        ],
        examples: ['flatcar-ext ci build --matrix matrix.json', 'flatcar-ext ci build --job "$(jq -c \'.include[0]\' matrix.json)"'],
      }),
    )
    .action(async (flags: Flags) => {
      if ((flags.job === undefined) === (flags.matrix === undefined))
        throw new UsageError('ci build takes either --job or --matrix', {
          next: 'pass one of them: flatcar-ext ci build --matrix matrix.json',
        });
      const jobs = flags.matrix === undefined ? [parseJob(flags.job ?? '')] : await readMatrix(flags.matrix);
      const building = jobs.filter(({ from }) => from === 'build');
      if (building.length === 0) return tell('every payload is published: nothing to build');
      const outcomes: Outcome[] = [];
      for (const job of building) {
        const { extension, architecture, versions, targets } = job;
        const { out, outcomes: dir } = foldersOf(job, flags);
        const what = ['build', ...versions.split(' '), '--arch', architecture, '--release', targets, '--payloads-only'];
        const args = [...what, '--profile', 'publish', '--origin', flags.origin, '--out', out];
        const error =
          job.checks === undefined
            ? await attempt(args, signal, { output: stepOutput, env: withoutSecrets() })
            : await buildElsewhere(args, signal);
        const outcome = jobOutcome('build', job, error);
        outcomes.push(outcome);
        await writeOutcome(dir, outcome);
        if (error !== undefined) tell(`${extension} could not be built for ${architecture}`);
      }
      await writeSummary('Built', outcomes);
      const failed = outcomes.filter(({ ok }) => !ok).map(({ job }) => job);
      if (failed.length > 0) throw new UserError(`could not be built: ${failed.join(', ')}`, { next: 'the reason is above' });
    });
}
