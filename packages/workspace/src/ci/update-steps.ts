import { messageOf, UserError, hasCode } from '@flatcar/core/engine';
import { cleanCheckout, commitChange, openCheckout, type Change, type Checkout } from './checkout.ts';
import type { GitHub } from './github.ts';
import { propose, type Proposal, type Proposed } from './pull-request.ts';
import { withRemote, type Remote } from './remote.ts';

/** One step of an update, which changes files in the checkout. */
export interface UpdateStep {
  /** Name of the extension or of what else is updated; the branch is `update/<name>`. */
  readonly name: string;
  /** Arguments of this program. */
  readonly args: readonly string[];
  readonly title: string;
  /** Whether the extension has components that others may share; undefined for a step that is not an extension, which runs first. */
  readonly mayShare?: boolean;
}

/** How a step went; `error` is the end of what a failed step printed. */
export interface StepResult {
  readonly error: string | undefined;
  readonly stdout: string;
}

/** The text of a pull request, and what happens once it is open. */
export interface Description {
  /** Markdown. */
  readonly body: string;
  readonly after?: (proposed: Proposed) => Promise<void>;
}

/** What updates need. */
export interface UpdateOptions {
  /** The repository's checkout. */
  readonly dir: string;
  readonly run: (args: readonly string[]) => Promise<StepResult>;
  /** Where pull requests are opened; without it the changes stay in the checkout. */
  readonly github?: GitHub | undefined;
  /** Branch that pull requests are for. */
  readonly base: string;
  readonly describe?: (step: UpdateStep, change: Change, results: readonly StepResult[]) => Promise<Description>;
  /** Is called with the result of each step. */
  readonly done: (name: string, error: string | undefined) => Promise<void>;
  readonly report: (line: string) => void;
}

/** Folder of the locks that extensions share: a change of them is one pull request with all extensions that use them. */
const SHARED = 'packages/';
export const SHARED_STEP = 'shared-components';

const plainBody = (): Promise<Description> => Promise.resolve({ body: '' });

class Updater {
  readonly #options: UpdateOptions;
  readonly #checkout: Checkout;
  readonly #github: GitHub;
  readonly #remote: Remote;

  constructor(options: UpdateOptions, checkout: Checkout, github: GitHub, remote: Remote) {
    this.#options = options;
    this.#checkout = checkout;
    this.#github = github;
    this.#remote = remote;
  }

  async #propose(step: UpdateStep, change: Change, results: readonly StepResult[]): Promise<void> {
    const { describe = plainBody, base, report } = this.#options;
    const { body, after } = await describe(step, change, results);
    const proposal: Proposal = { branch: `update/${step.name}`, base, title: step.title, body, change };
    const proposed = await propose(this.#github, this.#remote, proposal);
    report(`${step.name}: ${proposed.text}`);
    await after?.(proposed);
  }

  /** Runs `work` and reports its error, thrown or returned. A job that must not open pull requests ends the run. */
  async #try(name: string, work: () => Promise<string | undefined>, isDone = (): boolean => true): Promise<void> {
    let error: string | undefined;
    let fatal: unknown;
    try {
      error = await work();
    } catch (thrown) {
      error = thrown instanceof UserError && thrown.next !== undefined ? `${thrown.message}\n${thrown.next}` : messageOf(thrown);
      if (hasCode(thrown, 'pulls-refused')) fatal = thrown;
    }
    if (isDone()) await this.#options.done(name, error);
    if (fatal !== undefined) throw fatal;
  }

  /** Runs a step by itself; returns whether it must run again together with others, since it changes what they share. */
  async single(step: UpdateStep): Promise<boolean> {
    let isShared = false;
    await cleanCheckout(this.#checkout);
    const result = await this.#options.run(step.args);
    const work = async (): Promise<string | undefined> => {
      if (result.error !== undefined) return result.error;
      const change = await commitChange(this.#checkout, step.title);
      isShared = step.mayShare === true && change?.paths.some((path) => path.startsWith(SHARED)) === true;
      if (isShared) return undefined;
      if (change === undefined) this.#options.report(`${step.name}: nothing new`);
      else await this.#propose(step, change, [result]);
      return undefined;
    };
    await this.#try(step.name, work, () => !isShared);
    return isShared;
  }

  /** Runs steps on top of each other and proposes their changes together, without those of steps that fail. */
  async together(steps: readonly UpdateStep[]): Promise<void> {
    const results: StepResult[] = [];
    let change: Change | undefined;
    const title = 'Shared components: newer versions';
    for (const step of steps) {
      await cleanCheckout(this.#checkout, change?.commit);
      const result = await this.#options.run(step.args);
      await this.#try(step.name, async () => {
        if (result.error !== undefined) return result.error;
        results.push(result);
        change = (await commitChange(this.#checkout, title, change?.commit)) ?? change;
        return undefined;
      });
    }
    const found = change;
    if (found === undefined) return;
    await this.#try(SHARED_STEP, async () => {
      await this.#propose({ name: SHARED_STEP, args: [], title }, found, results);
      return undefined;
    });
  }

  async all(steps: readonly UpdateStep[]): Promise<void> {
    try {
      const shared: UpdateStep[] = [];
      for (const step of steps.filter(({ mayShare }) => mayShare === undefined)) await this.single(step);
      for (const step of steps.filter(({ mayShare }) => mayShare === true)) if (await this.single(step)) shared.push(step);
      if (shared.length > 0) await this.together(shared);
      for (const step of steps.filter(({ mayShare }) => mayShare === false)) await this.single(step);
    } finally {
      await cleanCheckout(this.#checkout);
    }
  }
}

/**
 * Runs each step in a clean checkout, and opens a pull request for its changes. A step that fails proposes nothing. Changes of components that
 * extensions share are one pull request, which is opened first.
 */
export async function updateAll(steps: readonly UpdateStep[], options: UpdateOptions): Promise<void> {
  const { dir, github, run, done } = options;
  if (github === undefined) {
    for (const step of steps) await done(step.name, (await run(step.args)).error);
    return;
  }
  const checkout = await openCheckout(dir);
  await withRemote(checkout, github, (remote) => new Updater(options, checkout, github, remote).all(steps));
}
