import { UserError } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import { readMatrix, selectJobs } from '@flatcar/workspace/ci/job';
import { writeSummary } from '@flatcar/workspace/ci/summary';
import { addHelp } from '../../help.ts';
import { stepOutput } from '../../output/output.ts';
import { keysOption, rootOption } from '../../published.ts';
import { bindOnlyOption, builtOption, extensionOption, failedOf, matrixOption, outcomesOption } from './options.ts';

interface Flags {
  readonly matrix: string;
  readonly built: string;
  readonly out: string;
  readonly outcomes: string;
  readonly extension?: string;
  readonly bindOnly?: boolean;
  readonly tree?: string;
  readonly keys?: string;
  readonly root?: string;
}

/** `ci bind`: the images of the jobs of a matrix. */
export function addBind(ci: Command, signal: AbortSignal): void {
  const command = ci
    .command('bind')
    .description('bind and sign the images of the jobs of a matrix, to inspect them before ci publish')
    .addOption(matrixOption())
    .addOption(builtOption())
    .option('--out <dir>', 'write images to <dir>/<extension>/<target>/', pipelinePath('images'))
    .addOption(outcomesOption())
    .addOption(extensionOption())
    .addOption(bindOnlyOption())
    .option('--tree <where>', 'the published tree, for jobs whose payloads are published')
    .addOption(keysOption())
    .addOption(rootOption())
    .action(async (flags: Flags) => {
      const { bindJobs } = await import('@flatcar/workspace/ci/bind');
      const jobs = selectJobs(await readMatrix(flags.matrix), flags);
      const outcomes = await bindJobs(jobs, { ...flags, output: stepOutput }, signal);
      await writeSummary('Bound', outcomes);
      const failed = failedOf(outcomes);
      if (failed.length > 0) throw new UserError(`could not be bound: ${failed.join(', ')}`, { next: 'the reasons are above' });
    });
  addHelp(command, {
    text: ['All jobs are tried; the command exits with 1 if one fails.'],
    environment: {
      FLATCAR_EXT_ROOTHASH_KEY: 'PEM key that signs disk images, instead of --keys',
      FLATCAR_EXT_ROOTHASH_CERTIFICATE: 'PEM certificate of that key',
    },
    examples: [
      'flatcar-ext ci bind --matrix matrix.json --out images --keys ~/dev-keys',
      'flatcar-ext ci bind --matrix matrix.json --extension hardening --out images',
    ],
  });
}
