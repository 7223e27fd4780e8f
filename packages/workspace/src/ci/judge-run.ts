import { parseJson } from '@flatcar/core/engine';
import * as v from 'valibot';
import { failureRecord, failuresIn, nextFailures } from './backoff.ts';
import type { Verdict } from './issues.ts';
import type { Job } from './job.ts';
import type { Outcome, RejectedOutcome } from './outcome.ts';

/** How the jobs of a workflow ended: its `toJSON(needs)`. */
const ResultsSchema = v.pipe(
  v.unknown(),
  v.check((value) => !Array.isArray(value), 'expected an object of jobs, got a list'),
  v.record(v.string(), v.looseObject({ result: v.picklist(['success', 'failure', 'cancelled', 'skipped']) })),
);
export type Results = v.InferOutput<typeof ResultsSchema>;

export const parseResults = (text: string): Results =>
  parseJson(ResultsSchema, text, { what: 'results of jobs', where: '--results', next: 'pass ${{ toJSON(needs) }} of a workflow' });

/** What is known of a run. */
export interface Evidence {
  /** Jobs that were planned; undefined if the workflow has no plan, or none could be read. */
  readonly jobs?: readonly Job[] | undefined;
  /** Jobs that were not started since they failed before, and until when. */
  readonly held?: readonly { readonly job: Job; readonly until: string }[];
  /** Why the plan cannot be read. */
  readonly planError?: string | undefined;
  readonly outcomes: readonly Outcome[];
  readonly rejected: readonly RejectedOutcome[];
  readonly results?: Results | undefined;
  /** Names of extensions and steps that outcomes may have if there is no plan. */
  readonly known: ReadonlySet<string>;
  /** Digests of the inputs of jobs, by job id. */
  readonly inputs?: ReadonlyMap<string, string> | undefined;
  readonly now: Date;
}

/** Verdicts, and files that are not accepted. */
export interface Judgement {
  readonly verdicts: readonly Verdict[];
  readonly rejected: readonly RejectedOutcome[];
}

type Failure = Verdict['failures'][number];

/** Jobs of the workflow that failed or were canceled. */
const badResults = (results: Results = {}): [name: string, result: string][] =>
  Object.entries(results).flatMap(([name, { result }]): [string, string][] =>
    result === 'success' || result === 'skipped' ? [] : [[name, result]],
  );

/** The steps of a job that must have an outcome. */
function stepsOf({ from, second, checks }: Job): Outcome['step'][] {
  if (checks !== undefined) return ['build'];
  return [...(from === 'build' ? (['build'] as const) : []), ...(second === 'compared' ? (['compare'] as const) : []), 'bind', 'publish'];
}

/** The failures of a planned job: each of its steps must have a good outcome, and none a bad one. */
function ofJob(job: Job, outcomes: readonly Outcome[], results: Results | undefined): { failures: Failure[]; isBuild: boolean } {
  const its = outcomes.filter((one) => one.job === job.id || (one.job === undefined && one.extension === job.extension));
  const bad = its.filter(({ ok }) => !ok);
  if (bad.length > 0)
    return {
      failures: bad.map(({ step, what, error = '' }) => ({
        what: `${step} ${what || job.id}`,
        error: error || 'it failed without any output',
      })),
      isBuild: bad.some(({ step }) => step === 'build' || step === 'compare'),
    };
  const missing = stepsOf(job).filter((step) => !its.some((one) => one.step === step));
  const [first] = missing;
  if (first === undefined) return { failures: [], isBuild: false };
  const how = badResults(results)
    .map(([name, result]) => `${name}: ${result}`)
    .join(', ');
  const error = `the job ended without an outcome of ${missing.join(', ')}${how === '' ? '' : `: ${how}`}`;
  return { failures: [{ what: `${first} ${job.id}`, error }], isBuild: first === 'build' };
}

function ofPlan({ jobs = [], held = [], outcomes, results, inputs, now }: Evidence): Verdict[] {
  const names = new Set([...jobs, ...held.map(({ job }) => job)].map(({ extension }) => extension));
  return [...names].map((extension): Verdict => {
    const judged = jobs.filter((job) => job.extension === extension).map((job) => ({ job, ...ofJob(job, outcomes, results) }));
    const failures = judged.flatMap((one) => one.failures);
    const waiting = held.filter(({ job }) => job.extension === extension);
    const digests = (of: readonly Job[]): string[] => of.flatMap(({ id }) => inputs?.get(id) ?? []);
    const again = digests(judged.filter((one) => one.isBuild).map(({ job }) => job));
    const kept = digests(waiting.map(({ job }) => job));
    const remember = (before: string): string => failureRecord(nextFailures(failuresIn(before), again, kept, now));
    return { extension, state: failures.length > 0 ? 'failed' : waiting.length > 0 ? 'held' : 'ok', failures, remember };
  });
}

function ofOutcomes(outcomes: readonly Outcome[]): Verdict[] {
  return [...Map.groupBy(outcomes, ({ extension }) => extension)].map(([extension, its]): Verdict => {
    const failures = its.flatMap(({ ok, step, what, error = '' }) =>
      ok ? [] : [{ what: `${step} ${what || extension}`, error: error || 'it failed without any output' }],
    );
    return { extension, state: failures.length > 0 ? 'failed' : 'ok', failures };
  });
}

/** The failures of the run as a whole: a job of the workflow that no extension's failure explains, the plan, a file that is not accepted. */
function ofRun({ planError, results }: Evidence, verdicts: readonly Verdict[], rejected: readonly RejectedOutcome[]): Verdict[] {
  const isExplained = verdicts.some(({ state }) => state === 'failed');
  const failures: Failure[] = [
    ...badResults(results)
      .filter(([name]) => name === 'plan' || !isExplained)
      .map(([name, result]) => ({ what: name, error: `the job '${name}' of the workflow ended with: ${result}` })),
    ...(planError === undefined ? [] : [{ what: 'plan', error: planError }]),
    ...rejected.map(({ file, why }) => ({ what: file, error: `this outcome is not accepted: ${why}` })),
  ];
  if (failures.length > 0) return [{ extension: undefined, state: 'failed', failures }];
  return results === undefined ? [] : [{ extension: undefined, state: 'ok', failures: [] }];
}

/** Judges a run of a workflow by its plan, the outcomes that its jobs wrote, and how the jobs ended. */
export function judgeRun(evidence: Evidence): Judgement {
  const { jobs, known } = evidence;
  const names = jobs === undefined ? known : new Set(jobs.map(({ extension }) => extension));
  const ids = new Map(jobs?.map(({ id, extension }) => [id, extension]));
  const rejected = [...evidence.rejected];
  const outcomes = evidence.outcomes.filter(({ extension, job, step }) => {
    const isPlanned = names.has(extension) && (jobs === undefined || job === undefined || ids.get(job) === extension);
    if (!isPlanned)
      rejected.push({
        file: `${step} of ${job ?? extension}`,
        why: jobs === undefined ? `there is no '${extension}'` : 'it was not planned',
      });
    return isPlanned;
  });
  const verdicts = jobs === undefined && evidence.held === undefined ? ofOutcomes(outcomes) : ofPlan({ ...evidence, outcomes });
  return { verdicts: [...verdicts, ...ofRun(evidence, verdicts, rejected)], rejected };
}
