import { resolve } from 'node:path';
import { envOf, UsageError, UserError } from '@flatcar/core/engine';

/** Throws a UserError in a workflow that runs on another branch than main: whoever can push a branch could publish from it. */
export function requireMain(anyBranch: boolean | undefined, env: NodeJS.ProcessEnv = process.env): void {
  const { GITHUB_ACTIONS: actions, GITHUB_REF: ref = '' } = env;
  if (actions !== 'true' || anyBranch === true || ref === 'refs/heads/main') return;
  throw new UserError(`this workflow runs on '${ref}', and releases are published from main`, {
    next: 'start the workflow on main, or pass --any-branch',
  });
}

/** Throws a UsageError if the destination is a folder that is removed with the runner: the next run would publish everything again. */
export function requireLasting(to: string, env: NodeJS.ProcessEnv = process.env): void {
  if (envOf('GITHUB_ACTIONS', env) !== 'true' || /^\w+:\/\//.test(to)) return;
  const path = resolve(to);
  const lost = ['GITHUB_WORKSPACE', 'RUNNER_TEMP', 'RUNNER_WORKSPACE'].flatMap((name) => envOf(name, env) ?? []);
  if (to.startsWith('/') && !lost.some((dir) => path === dir || path.startsWith(`${dir}/`))) return;
  throw new UsageError(`'${to}' is a folder of this runner, and is removed with it`, {
    where: '--tree',
    next: 'set the variable PUBLISH_TO to s3://bucket/prefix, or to a folder elsewhere that outlives the runner',
  });
}
