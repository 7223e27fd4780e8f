import { glob, lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder, messageOf, parseJson, writeAtomic } from '@flatcar/core/engine';
import * as v from 'valibot';
import { JobIdSchema, NameSchema, type Job } from './job.ts';

/** The most bytes of an outcome's file. */
const MAX_BYTES = 64 << 10;

const OutcomeSchema = v.strictObject({
  step: v.picklist(['build', 'compare', 'bind', 'publish', 'update', 'rebuild']),
  /** The job of the matrix, for steps of a release. */
  job: v.optional(JobIdSchema),
  extension: NameSchema,
  /** Architecture and versions, if any. */
  what: v.pipe(v.string(), v.maxLength(4000)),
  ok: v.boolean(),
  /** The end of what a failed command printed. */
  error: v.optional(v.pipe(v.string(), v.maxLength(16_000))),
});

/** How one step of a workflow went for one job, or for one extension if no matrix was planned. */
export type Outcome = v.InferOutput<typeof OutcomeSchema>;

/** The outcome of a step of an extension, which failed if there is an error. */
export const outcomeOf = (step: Outcome['step'], extension: string, what: string, error: string | undefined): Outcome =>
  error === undefined ? { step, extension, what, ok: true } : { step, extension, what, ok: false, error };

/** The outcome of a step of a job, which failed if there is an error. */
export function jobOutcome(step: Outcome['step'], job: Job, error: string | undefined): Outcome {
  const { id, extension, architecture, versions } = job;
  const base = {
    step,
    job: id,
    extension,
    what: `${architecture} ${versions.map((version) => `${extension}@${version}`).join(' ')}`.slice(0, 1000),
  };
  return error === undefined ? { ...base, ok: true } : { ...base, ok: false, error };
}

/** A file that is not accepted as an outcome, and why. */
export interface RejectedOutcome {
  readonly file: string;
  readonly why: string;
}

/** Writes an outcome to a folder that a later job reads: a file for each step of each job. */
export async function writeOutcome(dir: string, outcome: Outcome): Promise<void> {
  await makeFolder(dir);
  await writeAtomic(join(dir, `${outcome.step}-${outcome.job ?? outcome.extension}.outcome.json`), `${JSON.stringify(outcome)}\n`);
}

/** Why an outcome in the artifact of that name is not accepted: a job may report on itself only. */
function foreign({ step, job, extension }: Outcome, file: string): string | undefined {
  const [, builds] = /^(?:payload|outcomes-build)-([^/]+)\//.exec(file) ?? [];
  if (builds !== undefined) {
    if (step !== 'build') return `the job '${builds}' builds, and reports the step '${step}'`;
    return job === builds ? undefined : `the job '${builds}' reports on the job '${job ?? ''}'`;
  }
  const [, bindsOrPublishes, publishes] = /^outcomes-(?:(bind)|publish-([^/]+))\//.exec(file) ?? [];
  if ((bindsOrPublishes ?? publishes) === undefined) return undefined;
  if (step !== 'compare' && step !== 'bind' && step !== 'publish') return `a job that publishes reports the step '${step}'`;
  return publishes === undefined || publishes === extension ? undefined : `the job that publishes '${publishes}' reports on '${extension}'`;
}

/**
 * Reads all outcomes below a folder, sorted by their files. Artifacts that were downloaded side by side stand in folders of their names; what
 * stands in `payload-<id>/` or `outcomes-build-<id>/` counts for the build of that job only, in `outcomes-publish-<extension>/` for that extension.
 * A file that does not count is given apart, and ends nothing.
 */
export async function readOutcomes(dir: string): Promise<{ outcomes: Outcome[]; rejected: RejectedOutcome[] }> {
  const files = (await Array.fromAsync(glob('**/*.outcome.json', { cwd: dir }))).toSorted();
  const outcomes: Outcome[] = [];
  const rejected: RejectedOutcome[] = [];
  for (const file of files) {
    try {
      const info = await lstat(join(dir, file));
      if (!info.isFile() || info.size > MAX_BYTES) throw new Error('not a plain file of at most 64 KiB');
      const outcome = parseJson(OutcomeSchema, await readFile(join(dir, file), 'utf8'), { what: 'outcome', where: file });
      const why = foreign(outcome, file);
      if (why === undefined) outcomes.push(outcome);
      else rejected.push({ file, why });
    } catch (error) {
      rejected.push({ file, why: messageOf(error) });
    }
  }
  return { outcomes, rejected };
}
