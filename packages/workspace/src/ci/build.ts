import { join } from 'node:path';
import { openStore, withoutSecrets } from '@flatcar/core/engine';
import { withFreshStore } from '../fresh-store.ts';
import { referencesOf, type Job } from './job.ts';
import { jobOutcome, writeOutcome, type Outcome } from './outcome.ts';
import { pipelinePath } from './pipeline-path.ts';
import { attempt, type StepOutput } from './run-step.ts';

/** Where the payloads and outcomes of jobs go. */
export interface BuildFolders {
  /** For all jobs of a matrix: a folder `<built>/payload-<id>/` for each, as `publishJobs` reads it. */
  readonly built?: string;
  /** For one job without `built`. */
  readonly out?: string;
  readonly outcomes?: string;
}

export interface BuildJobsOptions {
  readonly folders: BuildFolders;
  /** The origin that `build` is given. */
  readonly origin: string;
  readonly output: StepOutput;
}

/** The folders of one job: for an artifact of its own, or beside those of the other jobs. */
export function foldersOf({ id }: Job, { built, out, outcomes }: BuildFolders): { out: string; outcomes: string } {
  if (built === undefined) return { out: out ?? pipelinePath('payloads'), outcomes: outcomes ?? pipelinePath('outcomes') };
  const dir = join(built, `payload-${id}`);
  return { out: join(dir, 'payloads'), outcomes: join(dir, 'outcomes') };
}

/** The arguments of `build` for a job. */
export function buildArguments(job: Job, origin: string, out: string): string[] {
  const what = ['build', ...referencesOf(job), '--arch', job.architecture, '--release', job.targets.join(','), '--payloads-only'];
  return [...what, '--profile', 'publish', '--origin', origin, '--out', out];
}

/** Builds as a second builder: without results of the store, and with another path, umask and time zone than the first one. */
async function buildElsewhere(args: readonly string[], output: StepOutput, signal: AbortSignal): Promise<string | undefined> {
  const umask = process.umask(0o077);
  try {
    return await withFreshStore(openStore(), async ({ root }) =>
      attempt(args, signal, { output, env: { ...withoutSecrets(), FLATCAR_EXT_CACHE: root, TZ: 'Pacific/Chatham' } }),
    );
  } finally {
    process.umask(umask);
  }
}

/** Builds the payloads of jobs, each in a process of its own that is given no key; writes and returns an outcome for each job. */
export async function buildJobs(
  jobs: readonly Job[],
  { folders, origin, output }: BuildJobsOptions,
  signal: AbortSignal,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const job of jobs) {
    const { out, outcomes: dir } = foldersOf(job, folders);
    const args = buildArguments(job, origin, out);
    const error =
      job.checks === undefined
        ? await attempt(args, signal, { output, env: withoutSecrets() })
        : await buildElsewhere(args, output, signal);
    const outcome = jobOutcome('build', job, error);
    outcomes.push(outcome);
    await writeOutcome(dir, outcome);
    if (error !== undefined) output.tell(`${job.extension} could not be built for ${job.architecture}`);
  }
  return outcomes;
}
