import { join } from 'node:path';

/**
 * The default path of a folder or file of the pipeline: in GitHub Actions outside the checkout, which stays clean; elsewhere in the current
 * folder, under a name that git ignores.
 */
export function pipelinePath(name: string, env: NodeJS.ProcessEnv = process.env): string {
  const { GITHUB_ACTIONS: actions, RUNNER_TEMP: temp } = env;
  return actions === 'true' && temp !== undefined && temp !== '' ? join(temp, name) : name;
}
