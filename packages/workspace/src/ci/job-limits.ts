import { pairOf, type Job } from './job.ts';

/** The most jobs of a GitHub matrix (docs.github.com, "Actions limits"). */
const MATRIX_LIMIT = 256;

/**
 * The most characters of jobs. All outputs of a job have at most 1 MiB in UTF-16, and contain each job twice; a step gets a matrix in a
 * variable, which has at most 128 KiB (execve(2), MAX_ARG_STRLEN).
 */
const OUTPUT_LIMIT = 100_000;

/** The jobs of a run, and the number of those that are left for the next one. */
export interface LimitedJobs {
  readonly jobs: readonly Job[];
  readonly left: number;
}

/**
 * The jobs of one run: at most 256 that build, in outputs of at most 1 MiB, with both builders of a payload or neither. Jobs that only bind
 * are in no matrix, and have no limit.
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
