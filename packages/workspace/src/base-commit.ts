import { join } from 'node:path';
import { exec, readPins, type Pins } from '@flatcar/core/engine';

/** The branch that images are published from. */
export const PUBLISHED_BRANCH = 'origin/main';

/** The commit at which this checkout branched off `ref`. Throws a UserError if git has no such commit. */
export async function baseCommit(ref: string, repository: string): Promise<string> {
  const git = (...args: string[]): Promise<string> =>
    exec('git', args, { cwd: repository, next: `fetch the history of '${ref}', for example with git fetch --unshallow` });
  return git('merge-base', ref, 'HEAD').catch(() => git('rev-parse', '--verify', `${ref}^{commit}`));
}

/**
 * The lock of an extension in `ref`, by default in the branch that images are published from. Empty if the commit has no such lock; undefined
 * if there is no such branch, so that nothing is known of what is published. Throws a UserError if a given `ref` does not exist.
 */
export async function baseLock(dir: string, ref?: string): Promise<Pins | undefined> {
  const commit = ref === undefined ? await baseCommit(PUBLISHED_BRANCH, dir).catch(() => undefined) : await baseCommit(ref, dir);
  if (commit === undefined) return undefined;
  const text = await exec('git', ['show', `${commit}:./pins.json`], { cwd: dir }).catch(() => undefined);
  return text === undefined ? {} : readPins(text, `${join(dir, 'pins.json')} of ${ref ?? PUBLISHED_BRANCH}`);
}
