import { exec } from '@flatcar/core/engine';
import { gitCommit } from './build-context.ts';
import { REPOSITORY } from './select.ts';

/** Which flatcar-ext this is. It has no releases of its own: a checkout is a version. */
export interface ToolVersion {
  /** Folder of the checkout. */
  readonly checkout: string;
  /** Commit, with `-dirty` if files that decide the bytes of images are changed; undefined without git. */
  readonly commit: string | undefined;
  /** Date of the commit, YYYY-MM-DD. */
  readonly date: string | undefined;
  /** Version of Node that runs it. */
  readonly node: string;
}

/** Reads the version of the checkout that this program belongs to. */
export async function toolVersion(): Promise<ToolVersion> {
  const commit = await gitCommit(REPOSITORY);
  const args = ['-c', `safe.directory=${REPOSITORY}`, 'log', '-1', '--format=%cs', 'HEAD'];
  const date = commit === undefined ? undefined : await exec('git', args, { cwd: REPOSITORY });
  return { checkout: REPOSITORY, commit, date, node: process.versions.node };
}
