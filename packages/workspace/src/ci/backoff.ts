import { createHash } from 'node:crypto';
import { exec, messageOf, readRecord, record } from '@flatcar/core/engine';
import * as v from 'valibot';
import type { GitHub } from './github.ts';
import { readIssues } from './issues.ts';
import { pairOf, type Job } from './job.ts';

const HOUR = 3_600_000;
const LONGEST = 24 * HOUR;
/** The most jobs of one extension that an issue records. */
const KEPT = 40;

const RECORD = 'flatcar-ext-failure';
const FailureSchema = v.strictObject({
  /** Digest of everything that the build depends on. */
  inputs: v.pipe(v.string(), v.regex(/^[0-9a-f]{24}$/)),
  /** How many times in a row it failed with these inputs. */
  count: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(100_000)),
  /** Time of the last failure. */
  last: v.pipe(v.string(), v.isoTimestamp()),
});
const RecordSchema = v.strictObject({ v: v.literal(1), jobs: v.pipe(v.array(FailureSchema), v.maxLength(KEPT)) });

/** A failed build in the record of its extension's issue. */
export type Failure = v.InferOutput<typeof FailureSchema>;

/** The failures in the text of an issue; empty if the text has no valid record. */
export function failuresIn(body: string): Failure[] {
  const parsed = v.safeParse(RecordSchema, readRecord(RECORD, body));
  return parsed.success ? parsed.output.jobs : [];
}

/** The line of an issue that records failures. */
export const failureRecord = (failures: readonly Failure[]): string => record(RECORD, { v: 1, jobs: failures.slice(0, KEPT) });

/** The time until which a build is held back: 1 hour after its first failure, then 2, 4, 8 and 16 hours, and a day from the sixth on. */
export function heldUntil({ count, last }: Pick<Failure, 'count' | 'last'>): Date {
  return new Date(Date.parse(last) + Math.min(2 ** Math.min(count - 1, 20) * HOUR, LONGEST));
}

/**
 * Digests of the inputs of jobs by job id: the committed files of the extension and of the packages that build images, and the job itself.
 * Undefined without a commit.
 */
export async function inputsOf(repository: string, jobs: readonly Job[]): Promise<ReadonlyMap<string, string> | undefined> {
  const extensions = [...new Set(jobs.map(({ extension }) => extension))];
  const shared = ['packages/core/src', 'packages/components', 'package-lock.json'];
  try {
    const trees = await exec('git', ['ls-tree', 'HEAD', '--', ...shared, ...extensions.map((name) => `extensions/${name}`)], {
      cwd: repository,
    });
    const ids = new Map(trees.split('\n').map((line): [string, string] => [line.split('\t')[1] ?? '', line.split(/\s/)[2] ?? '']));
    return new Map(
      jobs.map(({ id, extension, architecture, from, versions, targets, checks }) => {
        const values = [
          extension,
          architecture,
          from,
          versions,
          targets,
          ...[`extensions/${extension}`, ...shared].map((path) => ids.get(path) ?? ''),
          ...(checks === undefined ? [] : [checks]),
        ];
        return [id, createHash('sha256').update(JSON.stringify(values)).digest('hex').slice(0, 24)];
      }),
    );
  } catch {
    return undefined;
  }
}

/** The record after a run: builds that failed, with the number of times, and builds that were held back. */
export function nextFailures(before: readonly Failure[], failed: readonly string[], held: readonly string[], now: Date): Failure[] {
  const known = new Map(before.map((one) => [one.inputs, one]));
  const again = failed.map((inputs) => ({ inputs, count: (known.get(inputs)?.count ?? 0) + 1, last: now.toISOString() }));
  const kept = held.flatMap((inputs) => (failed.includes(inputs) ? [] : (known.get(inputs) ?? [])));
  return [...again, ...kept].slice(0, KEPT);
}

/** A build that is not started in this run. */
export interface HeldJob {
  readonly job: Job;
  readonly until: string;
  /** How many times it failed in a row. */
  readonly failures: number;
}

/**
 * Splits a plan into jobs to start and builds that are held back, since the same build failed not long ago according to the open issues.
 * If the issues cannot be read, everything is started, with a notice.
 */
export async function holdBack(
  jobs: readonly Job[],
  {
    github,
    repository,
    workflow,
    now = new Date(),
    notice,
  }: { github: GitHub | undefined; repository: string; workflow: string; now?: Date; notice: (text: string) => void },
): Promise<{ jobs: Job[]; held: HeldJob[] }> {
  const all = { jobs: [...jobs], held: [] };
  if (github === undefined || jobs.every(({ from }) => from !== 'build')) return all;
  const inputs = await inputsOf(repository, jobs);
  if (inputs === undefined) return all;
  const issues = await readIssues(github, workflow).catch((error: unknown) => {
    notice(`no build is held back, as the issues cannot be read: ${messageOf(error)}`);
    return [];
  });
  const failures = new Map(issues.filter(({ state }) => state === 'open').map((issue) => [issue.extension, failuresIn(issue.body)]));
  const waiting = (job: Job): { until: Date; count: number } | undefined => {
    if (job.from !== 'build') return undefined;
    const failure = failures.get(job.extension)?.find((one) => one.inputs === inputs.get(job.id));
    // This program never wrote a time in the future.
    if (failure === undefined || Date.parse(failure.last) > now.getTime() + HOUR) return undefined;
    const until = heldUntil(failure);
    return until <= now ? undefined : { until, count: failure.count };
  };
  const held: HeldJob[] = [];
  // A builder is useless without the other one: what holds back one holds back both.
  const taken = [...Map.groupBy(jobs, pairOf).values()].flatMap((pair) => {
    const [longest] = pair.flatMap((job) => waiting(job) ?? []).toSorted((a, b) => b.until.getTime() - a.until.getTime());
    if (longest === undefined) return pair;
    held.push(...pair.map((job) => ({ job, until: longest.until.toISOString(), failures: longest.count })));
    return [];
  });
  return { jobs: taken, held };
}
