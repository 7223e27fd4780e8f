import { basename, resolve } from 'node:path';
import { findExtensions, messageOf, UserError } from '@flatcar/core/engine';
import { REPOSITORY } from '../select.ts';
import { inputsOf } from './backoff.ts';
import type { GitHub } from './github.ts';
import { syncIssues, type IssueChange, type Verdict } from './issues.ts';
import { readPlan, type Matrix } from './job.ts';
import { judgeRun, type Judgement, type Results } from './judge-run.ts';
import { readOutcomes, type Outcome } from './outcome.ts';
import { RELEASES_STEP } from './update.ts';
import { SHARED_STEP } from './update-steps.ts';

export interface ReportOptions {
  /** The file that `ci plan` wrote; an empty word counts as absent. */
  readonly matrix?: string;
  /** Folder with the outcomes of all steps. */
  readonly outcomes: string;
  /** How the jobs of the workflow ended. */
  readonly results?: Results;
}

/** How a run went. */
export interface RunReport extends Judgement {
  readonly held: Matrix['held'];
  readonly outcomes: readonly Outcome[];
}

/** The plan of a run; without one, why it cannot be read. If the job that plans did not succeed, that is the failure: neither. */
async function planOf({ matrix = '', results }: ReportOptions): Promise<{ plan?: Matrix; planError?: string }> {
  const planned = results?.['plan']?.result ?? 'success';
  if (matrix === '' || planned !== 'success') return {};
  return readPlan(resolve(matrix)).then(
    (plan) => ({ plan }),
    (error: unknown) => ({ planError: messageOf(error) }),
  );
}

/** Judges a run by its plan, the outcomes of its steps and the results of its jobs. */
export async function reportRun(options: ReportOptions): Promise<RunReport> {
  const { plan, planError } = await planOf(options);
  const { outcomes, rejected } = await readOutcomes(resolve(options.outcomes));
  const held = plan?.held ?? [];
  const extensions = (await findExtensions(REPOSITORY)).map((dir) => basename(dir));
  const judgement = judgeRun({
    jobs: plan?.include,
    held: plan === undefined ? undefined : held,
    planError,
    outcomes,
    rejected,
    results: options.results,
    known: new Set([...extensions, RELEASES_STEP, SHARED_STEP]),
    inputs: plan === undefined ? undefined : await inputsOf(REPOSITORY, [...plan.include, ...held.map(({ job }) => job)]),
    now: new Date(),
  });
  return { ...judgement, held, outcomes };
}

/** Brings the issues of a workflow up to date; returns what changed, and an error for each issue that could not be updated. */
export async function updateIssues(
  github: GitHub,
  workflow: string,
  verdicts: readonly Verdict[],
): Promise<{ changes: readonly IssueChange[]; errors: readonly UserError[] }> {
  try {
    const changes = await syncIssues(github, workflow, verdicts);
    const errors = changes.flatMap(({ title, error }) =>
      error === undefined ? [] : [new UserError(`the issue '${title}' is not up to date: ${error}`)],
    );
    return { changes: changes.filter(({ action }) => action !== 'failed'), errors };
  } catch (error) {
    const what = `the issues cannot be read: ${messageOf(error)}`;
    return { changes: [], errors: [new UserError(what, { next: 'give the job the permission issues: write', cause: error })] };
  }
}
