import { UserError } from '@flatcar/core';

/** Refuses to publish from a workflow that runs on anything but main: whoever can push a branch could publish from it. */
export function requireMain(anyBranch: boolean | undefined, env: NodeJS.ProcessEnv = process.env): void {
  const { GITHUB_ACTIONS: actions, GITHUB_REF: ref = '' } = env;
  if (actions !== 'true' || anyBranch === true || ref === 'refs/heads/main') return;
  throw new UserError(`this workflow runs on '${ref}', and releases are published from main`, {
    next: 'start the workflow on main, or pass --any-branch',
  });
}
