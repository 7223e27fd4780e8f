import { resolve } from 'node:path';
import { writeAtomic } from '@flatcar/core/engine';
import { jobsOf } from '@flatcar/publish';
import { planRelease, unpublishableLines, type PlanTree } from '../plan-release.ts';
import { REPOSITORY } from '../select.ts';
import { holdBack, type HeldJob } from './backoff.ts';
import type { GitHub } from './github.ts';
import { limitJobs } from './job-limits.ts';
import type { Job, Matrix } from './job.ts';
import { withSecondBuilders } from './second-builder.ts';

export interface PlanJobsOptions {
  /** The published tree; an empty one by default. */
  readonly tree?: PlanTree;
  /** Whether what is compiled gets a second builder. */
  readonly secondBuilder: boolean;
  /** The issues that remember failed builds; without them no build is held back. */
  readonly github?: GitHub;
  /** Is called with a line for people for everything that they should know. */
  readonly notice: (line: string) => void;
}

/** The jobs of a run. */
export interface JobPlan {
  readonly jobs: readonly Job[];
  /** Jobs that are not started, since the same failed not long ago. */
  readonly held: readonly HeldJob[];
  /** Number of jobs that are left for the next run. */
  readonly left: number;
}

/** Plans the jobs that publish what is missing of extensions (all by default). */
export async function planJobs(names: readonly string[], options: PlanJobsOptions): Promise<JobPlan> {
  const { tree, secondBuilder, github, notice } = options;
  const plan = await planRelease(names, { tree });
  for (const line of unpublishableLines(plan)) notice(line);
  const planned = await withSecondBuilders(jobsOf(plan), !secondBuilder);
  for (const { id } of planned.filter(({ second }) => second === 'off'))
    notice(`${id} is compiled, and no second builder checks it (--no-second-builder); its build records say so`);
  const { jobs, held } = await holdBack(planned, { github, repository: REPOSITORY, workflow: 'release', notice });
  return { ...limitJobs(jobs), held };
}

/** Writes the matrix of a plan to a file that readPlan reads. */
export async function writeMatrix(file: string, { jobs, held }: JobPlan): Promise<void> {
  const matrix: Matrix = { include: [...jobs], held: [...held] };
  await writeAtomic(resolve(file), `${JSON.stringify(matrix)}\n`);
}
