import { glob } from 'node:fs/promises';
import { join } from 'node:path';
import { exec, hostArch, newestFirst, openStore, withoutSecrets } from '@flatcar/core/engine';
import { recordedCommit } from '../rebuild.ts';
import { REPOSITORY } from '../select.ts';
import { outcomeOf, writeOutcome, type Outcome } from './outcome.ts';
import { attempt, failureText, runProgram, type StepOutput } from './run-step.ts';

export interface RebuildJobOptions {
  /** The published tree, and its root of trust. */
  readonly tree: string;
  readonly root: string;
  /** Folder for outcomes. */
  readonly outcomes: string;
  readonly output: StepOutput;
}

/** The newest of these images whose record names a commit; the replacement of a withdrawn version names none. */
async function newestWithCommit(images: readonly string[], tree: string): Promise<{ image: string; commit: string } | undefined> {
  for (const name of newestFirst(images)) {
    const image = join(tree, name);
    const commit = await recordedCommit(image);
    if (commit !== undefined && /^[0-9a-f]{40}$/.test(commit)) return { image, commit };
  }
  return undefined;
}

/** Downloads the newest portable image of an extension and verifies it from a checkout of the commit in its record; returns what failed. */
async function rebuildNewest(name: string, options: RebuildJobOptions, temp: string, signal: AbortSignal): Promise<string | undefined> {
  const { tree, root, output } = options;
  const copy = join(temp, 'tree');
  const where = ['--tree', tree, '--to', copy, '--root', root, '--base-url', 'http://localhost'];
  const args = ['mirror', name, ...where, '--release', 'portable', '--arch', hostArch()];
  const error = await attempt(args, signal, { output, env: withoutSecrets() });
  if (error !== undefined) return error;
  const newest = await newestWithCommit(await Array.fromAsync(glob(`${name}/portable/*.raw`, { cwd: copy })), copy);
  if (newest === undefined) return `${name} has no portable image for ${hostArch()} in ${tree} that names its commit`;
  const checkout = join(temp, 'checkout');
  await exec('git', ['worktree', 'add', '--quiet', '--detach', checkout, newest.commit], { cwd: REPOSITORY });
  try {
    // In the checkout itself: flatcar-ext refuses to work on one checkout from within another.
    const script = 'cd "$1" && exec scripts/run flatcar-ext verify --rebuild "$2"';
    const run = await runProgram('sh', ['-c', script, 'sh', checkout, newest.image], signal, { output, env: withoutSecrets() });
    return run.error;
  } finally {
    await exec('git', ['worktree', 'remove', '--force', checkout], { cwd: REPOSITORY });
  }
}

/** Builds the newest published image of each extension again. Writes and returns an outcome for each. */
export async function rebuildPublished(names: readonly string[], options: RebuildJobOptions, signal: AbortSignal): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const name of names) {
    const error = await openStore()
      .withTemp((temp) => rebuildNewest(name, options, temp, signal))
      .catch(failureText);
    signal.throwIfAborted();
    if (error !== undefined) options.output.tell(`${name}: ${error}`);
    const outcome = outcomeOf('rebuild', name, hostArch(), error);
    outcomes.push(outcome);
    await writeOutcome(options.outcomes, outcome);
  }
  return outcomes;
}
