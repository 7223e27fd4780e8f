import { createHash } from 'node:crypto';
import { exec, messageOf, readRecord, record } from '@flatcar/core/engine';
import * as v from 'valibot';
import type { GitHub } from './github.ts';
import { readIssues } from './issues.ts';
import { pairOf, type Job } from './job.ts';

const HOUR = 3_600_000;
const LONGEST = 24 * HOUR;
/** Jobs of one extension that are remembered. */
const KEPT = 40;

const RECORD = 'flatcar-ext-failure';
const FailureSchema = v.strictObject({
  /** Digest of all that a build depends on. */
  inputs: v.pipe(v.string(), v.regex(/^[0-9a-f]{24}$/)),
  /** How many times in a row it failed with these inputs. */
  count: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(100_000)),
  /** When it failed last. */
  last: v.pipe(v.string(), v.isoTimestamp()),
});
const RecordSchema = v.strictObject({ v: v.literal(1), jobs: v.pipe(v.array(FailureSchema), v.maxLength(KEPT)) });

/** A build that failed, as the issue of its extension remembers it. */
export type Failure = v.InferOutput<typeof FailureSchema>;

/** What an issue remembers; nothing when its text has no record, or has one that is not valid. */
export function failuresIn(body: string): Failure[] {
  const parsed = v.safeParse(RecordSchema, readRecord(RECORD, body));
  return parsed.success ? parsed.output.jobs : [];
}

/** The line of an issue that remembers failures. */
export const failureRecord = (failures: readonly Failure[]): string => record(RECORD, { v: 1, jobs: failures.slice(0, KEPT) });

/** Until when a build is not begun again: 1 hour after its first failure, then 2, 4, 8 and 16, and a day from the sixth on. */
export function heldUntil({ count, last }: Pick<Failure, 'count' | 'last'>): Date {
  return new Date(Date.parse(last) + Math.min(2 ** Math.min(count - 1, 20) * HOUR, LONGEST));
}

/**
 * Digests of all that builds depend on: what is committed of the extension and of the packages that make images, and the job itself.
 * Undefined where there is no commit.
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

/** Builds that failed before and did so again in this run, with those that were held back; what did not fail is forgotten. */
export function nextFailures(before: readonly Failure[], failed: readonly string[], held: readonly string[], now: Date): Failure[] {
  const known = new Map(before.map((one) => [one.inputs, one]));
  const again = failed.map((inputs) => ({ inputs, count: (known.get(inputs)?.count ?? 0) + 1, last: now.toISOString() }));
  const kept = held.flatMap((inputs) => (failed.includes(inputs) ? [] : (known.get(inputs) ?? [])));
  return [...again, ...kept].slice(0, KEPT);
}

/** A build that is not begun in this run. */
export interface HeldJob {
  readonly job: Job;
  readonly until: string;
  /** How many times it failed in a row. */
  readonly failures: number;
}

/**
 * Which builds of a plan are not begun, since the same failed not long ago. The open issues remember that; where they cannot be read,
 * everything is begun, with a notice.
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
    // A time in the future is not one that this program wrote.
    if (failure === undefined || Date.parse(failure.last) > now.getTime() + HOUR) return undefined;
    const until = heldUntil(failure);
    return until <= now ? undefined : { until, count: failure.count };
  };
  const held: HeldJob[] = [];
  // One builder alone comes to nothing: what holds back one of two holds back both.
  const taken = [...Map.groupBy(jobs, pairOf).values()].flatMap((pair) => {
    const [longest] = pair.flatMap((job) => waiting(job) ?? []).toSorted((a, b) => b.until.getTime() - a.until.getTime());
    if (longest === undefined) return pair;
    held.push(...pair.map((job) => ({ job, until: longest.until.toISOString(), failures: longest.count })));
    return [];
  });
  return { jobs: taken, held };
}
