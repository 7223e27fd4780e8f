import { UsageError, UserError } from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import { parseJob, readMatrix } from '@flatcar/workspace/ci/job';
import { writeSummary } from '@flatcar/workspace/ci/summary';
import { addHelp } from '../../help.ts';
import { stepOutput, tell } from '../../output/output.ts';
import { builtOption, failedOf } from './options.ts';

interface Flags {
  readonly job?: string;
  readonly matrix?: string;
  readonly out?: string;
  readonly built: string;
  readonly outcomes?: string;
  readonly origin: string;
}

/** `ci build`: the payloads of one job, or of all jobs of a matrix. */
export function addBuild(ci: Command, signal: AbortSignal): void {
  const command = ci
    .command('build')
    .description('build the payloads of jobs that ci plan wrote')
    .option('--job <json>', 'one job: an entry of `include` of the matrix')
    .option('--matrix <file>', 'all jobs of this file, one after the other, instead of --job')
    .addOption(new Option('--out <dir>', 'with --job: write payloads there').default(undefined, 'payloads'))
    .addOption(new Option('--outcomes <dir>', 'with --job: write the outcome there').default(undefined, 'outcomes'))
    .addOption(builtOption())
    .option('--origin <kind>', 'the --origin of build', 'upstream')
    .action(async (flags: Flags) => {
      if ((flags.job === undefined) === (flags.matrix === undefined))
        throw new UsageError('ci build takes either --job or --matrix', {
          next: 'pass one of them: flatcar-ext ci build --matrix matrix.json',
        });
      const jobs = flags.matrix === undefined ? [parseJob(flags.job ?? '')] : await readMatrix(flags.matrix);
      const building = jobs.filter(({ from }) => from === 'build');
      if (building.length === 0) return tell('all payloads are published: nothing to build');
      const { buildJobs } = await import('@flatcar/workspace/ci/build');
      const { out, outcomes, built, origin } = flags;
      const folders = flags.matrix === undefined ? { out, outcomes } : { built };
      const done = await buildJobs(building, { folders, origin, output: stepOutput }, signal);
      await writeSummary('Built', done);
      const failed = failedOf(done);
      if (failed.length > 0) throw new UserError(`could not be built: ${failed.join(', ')}`, { next: 'the reason is above' });
    });
  addHelp(command, {
    text: [
      'Only payloads are kept, in <out>/<extension>/payload/: ci bind or ci publish binds images. Builds get no key of the environment. In GitHub Actions, folders default to $RUNNER_TEMP. A second builder (NAME-ARCHITECTURE-second) uses the downloads of the store, and none of its results.',
    ],
    examples: ['flatcar-ext ci build --matrix matrix.json', 'flatcar-ext ci build --job "$(jq -c \'.include[0]\' matrix.json)"'],
  });
}
