import { rm } from 'node:fs/promises';
import { withoutSecrets } from '@flatcar/core/engine';
import { join } from 'node:path';
import { attempt, failureText, type StepOutput } from './run-step.ts';
import { checkedPayloads } from './payload-claims.ts';
import { buildersOf, compareBuilders, DifferenceError, keepPayloads } from './compare-builders.ts';
import type { Job } from './job.ts';
import { jobOutcome, type Outcome } from './outcome.ts';

/** What binding the jobs of a matrix takes. */
export interface BindFlags {
  /** Folder with an artifact for each job that built. */
  readonly built: string;
  /** The published tree, with the payloads of jobs that only bind. */
  readonly tree?: string;
  readonly keyring?: string;
}

/** The same, and where its steps show what happens. */
export interface BindOptions extends BindFlags {
  readonly output: StepOutput;
}

/** Binding takes seconds: what takes longer hangs, and must not hold back other extensions. */
const LIMIT = 30 * 60_000;

/** What was taken of the artifacts of jobs. */
export interface AcceptedPayloads {
  /** Paths of the records, by the id of the job that built them; a job that failed has none. */
  readonly records: ReadonlyMap<string, readonly string[]>;
  /** How comparing went, and why the others failed. */
  readonly outcomes: readonly Outcome[];
}

/**
 * Takes what jobs built out of their artifacts into `<dir>/<id>/`, once it is found to be what they were asked for, and the same as what
 * their second builders made. One that fails holds back no other, unless its builders disagree: then somebody may have changed a build of this
 * extension, and nothing of it is taken.
 */
export async function acceptPayloads(jobs: readonly Job[], built: string, dir: string, signal: AbortSignal): Promise<AcceptedPayloads> {
  const records = new Map<string, readonly string[]>();
  const outcomes: Outcome[] = [];
  const differing: Job[] = [];
  for (const job of jobs.filter(({ from }) => from === 'build')) {
    let step: Outcome['step'] = 'bind';
    try {
      const found = await checkedPayloads(built, job);
      const builders = buildersOf(job, found);
      if (job.second === 'compared') {
        step = 'compare';
        await compareBuilders(built, job, found);
        outcomes.push(jobOutcome(step, job, undefined));
      }
      records.set(job.id, await keepPayloads(found, builders, join(dir, job.id)));
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof DifferenceError) differing.push(job);
      outcomes.push(jobOutcome(step, job, failureText(error)));
    }
  }
  for (const { id, extension } of differing) {
    const why = `two builders made different payloads of ${id}: nothing of ${extension} is taken from this run`;
    for (const job of jobs) if (job.extension === extension && records.delete(job.id)) outcomes.push(jobOutcome('compare', job, why));
  }
  return { records, outcomes };
}

/**
 * Binds what one job asks for into `<out>/<extension>/<target>/`: payloads of the given records, or published ones. Gives why it failed. `keys`
 * are bind's arguments for the key of disk images.
 */
export async function bindJob(
  job: Job,
  records: readonly string[],
  flags: BindOptions,
  out: string,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const { architecture, from, versions, targets } = job;
  const common = ['--release', targets, '--out', out, ...keys];
  // It reads what another job made: it is given the key of disk images, and no other.
  if (from === 'build')
    return attempt(['bind', ...records, ...common], signal, { output: flags.output, env: withoutSecrets(), limit: LIMIT });
  const { tree = '', keyring = '' } = flags;
  if (tree === '') return 'its payload is published, and --tree does not specify where';
  const trust = keyring === '' ? [] : ['--keyring', keyring];
  const what = ['bind', ...versions.split(' '), '--tree', tree, '--arch', architecture];
  return attempt([...what, ...trust, ...common], signal, { output: flags.output, limit: LIMIT });
}

/** Removes what was bound of an extension: images of an earlier run are not this one's, and the next extension needs the room. */
export async function removeImages(out: string, extension: string): Promise<void> {
  await rm(join(out, extension), { recursive: true, force: true });
}
