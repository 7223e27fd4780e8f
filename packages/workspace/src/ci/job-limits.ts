import { pairOf, type Job } from './job.ts';

/** A GitHub matrix holds no more jobs (docs.github.com, "Actions limits"). */
const MATRIX_LIMIT = 256;

/**
 * Characters of jobs. All outputs of a job hold at most 1 MiB in UTF-16, and they have each job twice; and a step is given a matrix by a variable,
 * of which none is longer than 128 KiB (execve(2), MAX_ARG_STRLEN).
 */
const OUTPUT_LIMIT = 100_000;

/** What a run takes on, and how many jobs are left for the next one. */
export interface LimitedJobs {
  readonly jobs: readonly Job[];
  readonly left: number;
}

/**
 * The jobs of one run: at most 256 that build, in outputs of at most 1 MiB, whatever is missing; both builders of a payload or neither. Jobs
 * that only bind are in no matrix.
 */
export function limitJobs(all: readonly Job[], limits: { jobs?: number; characters?: number } = {}): LimitedJobs {
  const { jobs: maxJobs = MATRIX_LIMIT, characters: maxCharacters = OUTPUT_LIMIT } = limits;
  let count = 0;
  let characters = 0;
  const jobs = [...Map.groupBy(all, (job) => `${job.from} ${pairOf(job)}`).values()].flatMap((pair) => {
    if (pair.every(({ from }) => from === 'published')) return pair;
    const size = pair.reduce((sum, job) => sum + JSON.stringify(job).length + 1, 0);
    if (count + pair.length > maxJobs || characters + size > maxCharacters) return [];
    count += pair.length;
    characters += size;
    return pair;
  });
  return { jobs, left: all.length - jobs.length };
}

/** The outputs of `ci plan` in a workflow. */
export function planOutputs(jobs: readonly Job[]): Record<'jobs' | 'extensions' | 'matrices' | 'build' | 'bind' | 'all', string | number> {
  const building = jobs.filter(({ from }) => from === 'build');
  const byExtension = Map.groupBy(building, ({ extension }) => extension);
  return {
    jobs: JSON.stringify({ include: building }),
    extensions: JSON.stringify([...byExtension.keys()]),
    matrices: JSON.stringify(Object.fromEntries([...byExtension].map(([name, include]) => [name, { include }]))),
    build: building.length,
    bind: jobs.length - building.length,
    all: jobs.length,
  };
}
