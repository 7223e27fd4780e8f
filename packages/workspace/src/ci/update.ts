import { basename } from 'node:path';
import { componentsOf, loadExtension, withoutSecrets } from '@flatcar/core/engine';
import { findDirs, REPOSITORY } from '../select.ts';
import { automergeObjections } from './automerge.ts';
import { readBumped } from './bump-output.ts';
import type { Change } from './checkout.ts';
import { mutate, type GitHub } from './github.ts';
import { outcomeOf, writeOutcome, type Outcome } from './outcome.ts';
import { pullBody } from './pull-body.ts';
import type { Proposed } from './pull-request.ts';
import { withReadProxy } from './read-proxy.ts';
import { passedOn, runStep, type StepOutput } from './run-step.ts';
import { updateAll, type Description, type StepResult, type UpdateStep } from './update-steps.ts';

/** The step that updates the catalogue of Flatcar releases. */
export const RELEASES_STEP = 'releases';

export interface UpdateOptions {
  /** Where pull requests are opened; without it the changes stay in the checkout. */
  readonly github?: GitHub;
  /** Branch that pull requests are for. */
  readonly base: string;
  /** Let GitHub merge patch releases that change nothing else. */
  readonly automerge: boolean;
  /** Milliseconds that each step may take. */
  readonly limit: number;
  /** Folder for outcomes. */
  readonly outcomes: string;
  readonly output: StepOutput;
  /** Is called with the outcome of each step as soon as it is known. */
  readonly done: (outcome: Outcome) => void;
}

/** Whether a component of an extension is pinned in a lock that other extensions may use. */
async function usesSharedLocks(dir: string): Promise<boolean> {
  // A definition that cannot be read fails in its own step, with its own error.
  const loaded = await loadExtension(dir).catch(() => undefined);
  if (loaded === undefined) return false;
  const found = await Promise.all(Object.keys(loaded.pins).map((version) => componentsOf(loaded, version).catch(() => undefined)));
  return found.some((one) => one?.components.some((component) => component.dir !== dir) === true);
}

/** The steps of an update of extensions; of all of them, and of the Flatcar releases, without names. `diff`: compare images, too. */
export async function updateSteps(names: readonly string[], diff: boolean): Promise<UpdateStep[]> {
  const bumps = (await findDirs(names)).map(async (dir): Promise<UpdateStep> => {
    const name = basename(dir);
    const args = ['bump', name, '--json', ...(diff ? [] : ['--no-diff'])];
    return { name, args, title: `${name}: newer versions`, mayShare: await usesSharedLocks(dir) };
  });
  const releases: UpdateStep = { name: RELEASES_STEP, args: ['releases', 'update'], title: 'Flatcar releases' };
  return [...(names.length === 0 ? [releases] : []), ...(await Promise.all(bumps))];
}

const ENABLE = 'enablePullRequestAutoMerge(input: { pullRequestId: $pull, mergeMethod: SQUASH })';
const DISABLE = 'disablePullRequestAutoMerge(input: { pullRequestId: $pull })';

/** Lets GitHub merge a pull request once its required checks pass, or takes that back. */
async function setAutomerge(github: GitHub, { action, pull }: Proposed, isWanted: boolean): Promise<void> {
  // If nothing changed, a person may have decided otherwise.
  if (pull?.node_id === undefined || (action !== 'opened' && action !== 'updated')) return;
  const isSet = pull.auto_merge !== null && pull.auto_merge !== undefined;
  if (isWanted === isSet) return;
  // https://docs.github.com/en/graphql/reference/mutations#enablepullrequestautomerge
  await mutate(github, `mutation($pull: ID!) { ${isWanted ? ENABLE : DISABLE} { clientMutationId } }`, { pull: pull.node_id });
}

/** The environment of a step. With `api`, the address of the read proxy, the step is given no token. */
export function stepEnvironment(api: string | undefined): Record<string, string> {
  if (api === undefined) return passedOn();
  const env = withoutSecrets();
  // A mirror replaces all hosts, GitHub's API included.
  if ((env['FLATCAR_EXT_MIRROR'] ?? '') !== '') return env;
  const direct = [env['no_proxy'] ?? env['NO_PROXY'] ?? '', '127.0.0.1'].filter((one) => one !== '').join(',');
  return { ...env, GITHUB_API_URL: api, no_proxy: direct, NO_PROXY: direct };
}

/** The text of a step's pull request, and whether GitHub merges it. */
function describe(
  step: UpdateStep,
  change: Change,
  results: readonly StepResult[],
  { automerge, github }: Pick<UpdateOptions, 'automerge' | 'github'>,
): Description {
  const bumped = step.name === RELEASES_STEP ? [] : results.flatMap(({ stdout }) => readBumped(stdout));
  const objections = automerge ? automergeObjections(step.name, bumped, change.paths) : undefined;
  const command = `flatcar-ext ${step.args.filter((arg) => !arg.startsWith('--')).join(' ')}`;
  const body = pullBody(step.args.length === 0 ? 'flatcar-ext ci update' : command, bumped, objections);
  if (github === undefined || objections === undefined) return { body };
  return { body, after: (proposed) => setAutomerge(github, proposed, objections.length === 0) };
}

/** Runs the steps of an update, each in a process of its own, and opens a pull request for each that has news. */
export async function updateExtensions(steps: readonly UpdateStep[], options: UpdateOptions, signal: AbortSignal): Promise<void> {
  const { github, base, limit, output } = options;
  const update = (api?: string): Promise<void> =>
    updateAll(steps, {
      dir: REPOSITORY,
      github,
      base,
      run: (args) => runStep(args, signal, { output, env: stepEnvironment(api), json: args.includes('--json'), limit }),
      describe: async (step, change, results) => describe(step, change, results, options),
      done: async (name, error) => {
        const outcome = outcomeOf('update', name, '', error);
        options.done(outcome);
        await writeOutcome(options.outcomes, outcome);
      },
      report: output.tell,
    });
  await (github === undefined ? update() : withReadProxy(github, update));
}
