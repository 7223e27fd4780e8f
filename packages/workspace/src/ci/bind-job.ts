import { rm } from 'node:fs/promises';
import { withoutSecrets, hasCode } from '@flatcar/core/engine';
import { join } from 'node:path';
import { attempt, failureText, type StepOutput } from './run-step.ts';
import { checkedPayloads } from './payload-claims.ts';
import { buildersOf, compareBuilders, keepPayloads } from './compare-builders.ts';
import { referencesOf, type Job } from './job.ts';
import { jobOutcome, type Outcome } from './outcome.ts';

/** What the jobs of a matrix are bound from. */
export interface BindFlags {
  /** Folder with an artifact for each job that built. */
  readonly built: string;
  /** The published tree, with the payloads of jobs that only bind. */
  readonly tree?: string;
  /** The root of trust of the tree. */
  readonly root?: string;
}

/** The same, and where steps report what happens. */
export interface BindOptions extends BindFlags {
  readonly output: StepOutput;
}

/** Time limit in milliseconds. Binding takes seconds: a step that hangs must not block other extensions. */
const LIMIT = 30 * 60_000;

/** The payloads that were accepted from the artifacts of jobs. */
export interface AcceptedPayloads {
  /** Paths of payload records by job id; a job that failed has none. */
  readonly records: ReadonlyMap<string, readonly string[]>;
  /** Of comparisons, and of jobs that failed. */
  readonly outcomes: readonly Outcome[];
}

/**
 * Copies payloads from the artifacts of jobs to `<dir>/<id>/` after checking that they are what the jobs were planned to build, and the same as
 * those of their second builders. A job that fails stops no other, unless its builders disagree: then somebody may have changed a build of the
 * extension, and none of its payloads are accepted.
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
      if (hasCode(error, 'different-payloads')) differing.push(job);
      outcomes.push(jobOutcome(step, job, failureText(error)));
    }
  }
  for (const { id, extension } of differing) {
    const why = `two builders made different payloads of ${id}: no payload of ${extension} is accepted from this run`;
    for (const job of jobs) if (job.extension === extension && records.delete(job.id)) outcomes.push(jobOutcome('compare', job, why));
  }
  return { records, outcomes };
}

/**
 * Binds the images of one job to `<out>/<extension>/<target>/`: from the payloads of the given records, or from published ones. Returns the
 * error, if any. `keys` are the arguments of `bind` for the key of disk images.
 */
export async function bindJob(
  job: Job,
  records: readonly string[],
  flags: BindOptions,
  out: string,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const { architecture, from, targets } = job;
  const common = ['--release', targets.join(','), '--out', out, ...keys];
  // The child reads what another job built: it gets the key of disk images, and no other.
  if (from === 'build')
    return attempt(['bind', ...records, ...common], signal, { output: flags.output, env: withoutSecrets(), limit: LIMIT });
  const { tree = '', root = '' } = flags;
  if (tree === '') return 'its payload is published, and --tree does not specify where';
  const trust = root === '' ? [] : ['--root', root];
  const what = ['bind', ...referencesOf(job), '--tree', tree, '--arch', architecture];
  return attempt([...what, ...trust, ...common], signal, { output: flags.output, limit: LIMIT });
}

/** Removes the bound images of an extension: those of an earlier run must not be published, and the next extension needs the space. */
export async function removeImages(out: string, extension: string): Promise<void> {
  await rm(join(out, extension), { recursive: true, force: true });
}
