import { join } from 'node:path';
import { openStore, UserError } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { helpText } from '../../help.ts';
import { failureText } from '@flatcar/workspace/ci/run-step';
import { acceptPayloads, bindJob, removeImages, type BindFlags } from '@flatcar/workspace/ci/bind';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import { readMatrix, selectJobs } from '@flatcar/workspace/ci/job';
import { jobOutcome, writeOutcome, type Outcome } from '@flatcar/workspace/ci/outcome';
import { withRoothashKey } from '@flatcar/workspace/ci/roothash';
import { writeSummary } from '@flatcar/workspace/ci/summary';
import { stepOutput, tell } from '../../output/output.ts';
import { keysOption } from '../../published.ts';

interface Flags extends BindFlags {
  readonly matrix: string;
  readonly out: string;
  readonly outcomes: string;
  readonly extension?: string;
  readonly bindOnly?: boolean;
  readonly keys?: string;
}

/** `ci bind`: the images that the jobs of a matrix ask for. */
export function addBind(ci: Command, signal: AbortSignal): void {
  ci.command('bind')
    .description('bind and sign the images of the jobs of a matrix, for review before ci publish does the same')
    .option('--matrix <file>', 'jobs that ci plan wrote', pipelinePath('matrix.json'))
    .option('--built <dir>', 'artifacts of ci build: a folder payload-<id>/ for each job', pipelinePath('built'))
    .option('--out <dir>', 'write images to <dir>/<extension>/<target>/', pipelinePath('images'))
    .option('--outcomes <dir>', 'write outcomes to this folder, for ci report', pipelinePath('outcomes'))
    .option('--extension <name>', 'only jobs of this extension')
    .option('--bind-only', 'only jobs whose payloads are published already')
    .option('--tree <where>', 'the published tree: a folder, https://… or s3://bucket/prefix')
    .addOption(keysOption())
    .option('--keyring <file>', 'OpenPGP public keys that verify the published index')
    .addHelpText(
      'after',
      helpText({
        text: ['All jobs are tried; the command exits with 1 if one failed.'],
        environment: {
          FLATCAR_EXT_ROOTHASH_KEY: 'PEM key that signs disk images, instead of --keys',
          FLATCAR_EXT_ROOTHASH_CERTIFICATE: 'its PEM certificate',
        },
        examples: [
          'flatcar-ext ci bind --matrix matrix.json --out images --keys ~/dev-keys',
          'flatcar-ext ci bind --matrix matrix.json --extension hardening --out images',
        ],
      }),
    )
    .action(async (flags: Flags) => {
      const jobs = selectJobs(await readMatrix(flags.matrix), flags);
      const outcomes: Outcome[] = [];
      const done = async (outcome: Outcome): Promise<void> => {
        if (outcome.error !== undefined) tell(`${outcome.job}: ${outcome.error}`);
        outcomes.push(outcome);
        await writeOutcome(flags.outcomes, outcome);
      };
      for (const extension of new Set(jobs.map((job) => job.extension))) await removeImages(flags.out, extension);
      await openStore().withTemp(async (temp) => {
        const accepted = await acceptPayloads(jobs, flags.built, join(temp, 'payloads'), signal);
        for (const outcome of accepted.outcomes) await done(outcome);
        await withRoothashKey(flags.keys, async (keys) => {
          for (const job of jobs) {
            const records = accepted.records.get(job.id);
            if (job.from === 'build' && records === undefined) continue;
            const error = await bindJob(job, records ?? [], { ...flags, output: stepOutput }, flags.out, keys, signal).catch(failureText);
            signal.throwIfAborted();
            await done(jobOutcome('bind', job, error));
          }
        });
      });
      await writeSummary('Bound', outcomes);
      const failed = [...new Set(outcomes.filter(({ ok }) => !ok).map(({ job }) => job))];
      if (failed.length > 0) throw new UserError(`could not be bound: ${failed.join(', ')}`, { next: 'the reasons are above' });
    });
}
