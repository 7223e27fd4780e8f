import { join } from 'node:path';
import { openStore } from '@flatcar/core/engine';
import { acceptPayloads, bindJob, removeImages, type BindOptions } from './bind-job.ts';
import type { Job } from './job.ts';
import { jobOutcome, writeOutcome, type Outcome } from './outcome.ts';
import { withRoothashKey } from './roothash.ts';
import { failureText } from './run-step.ts';

export interface BindJobsOptions extends BindOptions {
  /** Images go to `<out>/<extension>/<target>/`; those of an earlier run are removed first. */
  readonly out: string;
  /** Folder for outcomes. */
  readonly outcomes: string;
  /** Folder with the key of disk images. */
  readonly keys?: string;
}

/** Binds the images of jobs, for a person to look at. Writes and returns an outcome for each step of each job. */
export async function bindJobs(jobs: readonly Job[], options: BindJobsOptions, signal: AbortSignal): Promise<Outcome[]> {
  const { out, built, keys, output } = options;
  const outcomes: Outcome[] = [];
  const done = async (outcome: Outcome): Promise<void> => {
    if (outcome.error !== undefined) output.tell(`${outcome.job}: ${outcome.error}`);
    outcomes.push(outcome);
    await writeOutcome(options.outcomes, outcome);
  };
  for (const extension of new Set(jobs.map((job) => job.extension))) await removeImages(out, extension);
  await openStore().withTemp(async (temp) => {
    const accepted = await acceptPayloads(jobs, built, join(temp, 'payloads'), signal);
    for (const outcome of accepted.outcomes) await done(outcome);
    await withRoothashKey(keys, async (bindArgs) => {
      for (const job of jobs) {
        const records = accepted.records.get(job.id);
        if (job.from === 'build' && records === undefined) continue;
        const error = await bindJob(job, records ?? [], options, out, bindArgs, signal).catch(failureText);
        signal.throwIfAborted();
        await done(jobOutcome('bind', job, error));
      }
    });
  });
  return outcomes;
}
