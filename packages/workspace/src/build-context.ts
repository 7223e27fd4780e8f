import { access } from 'node:fs/promises';
import { join } from 'node:path';
import {
  envOf,
  execResult,
  messageOf,
  UserError,
  type BuildContext,
  type ExecResult,
  type Profile,
  type Report,
} from '@flatcar/core/engine';
import { REPOSITORY } from './select.ts';

/** Git pathspecs of the files that decide the bytes of images; other changes do not make a checkout dirty. */
const DECIDES = [
  'extensions',
  'packages',
  'scripts',
  ':(glob)*.json',
  ':(glob,exclude)extensions/*/README.md',
  ':(glob,exclude)extensions/*/CHANGELOG.md',
  ':(glob,exclude)extensions/*/test/**',
  ':(glob,exclude)packages/*/test/**',
];
/** Lines of `git status --ignored` about files that images contain although git ignores them. */
const COPIED = /^!! "?extensions\/[^/]+\/(?:files|go)(?:\/|"?$)/m;

/** How git ran in a checkout that may belong to somebody else: nothing that its configuration names is run, and nothing is written. */
async function gitResult(dir: string, ...args: readonly string[]): Promise<ExecResult> {
  const safe = ['-c', `safe.directory=${dir}`, '-c', 'core.fsmonitor=false', '--no-optional-locks'];
  return execResult('git', [...safe, ...args], { cwd: dir });
}

/** The output of git in a checkout. Throws an error without git's words if it fails: whyNoCommit has them. */
async function git(dir: string, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout } = await gitResult(dir, ...args);
  if (exitCode !== 0) throw new Error(`git ${args[0] ?? ''} failed`);
  return stdout;
}

const isCheckout = (dir: string): Promise<boolean> =>
  access(join(dir, '.git')).then(
    () => true,
    () => false,
  );

/** The commit of a checkout, with `-dirty` if a file changed that decides bytes; undefined without git or without a commit. */
export async function gitCommit(dir: string = REPOSITORY): Promise<string | undefined> {
  if (!(await isCheckout(dir))) return undefined;
  try {
    const commit = await git(dir, 'rev-parse', '--verify', 'HEAD');
    const status = (...args: string[]): Promise<string> => git(dir, 'status', '--porcelain', '--untracked-files=all', ...args);
    const isClean = (await status('--', ...DECIDES)) === '' && !COPIED.test(await status('--ignored=matching', '--', 'extensions'));
    return isClean ? commit : `${commit}-dirty`;
  } catch {
    return undefined;
  }
}

/** Why a checkout has no commit, in git's words. */
export async function whyNoCommit(dir: string = REPOSITORY): Promise<string> {
  if (!(await isCheckout(dir))) return 'the folder has no .git';
  try {
    const { exitCode, output } = await gitResult(dir, 'rev-parse', '--verify', 'HEAD');
    return exitCode === 0 ? 'git cannot list the changes' : `git says: ${output.replaceAll('\n', ' ')}`;
  } catch (error) {
    return messageOf(error); // git did not start
  }
}

/** The https URL of a git remote, without user, password and `.git`; undefined if the remote is a folder. */
export function remoteUrl(remote: string): string | undefined {
  const [, host, path] =
    /^(?:https?|ssh|git):\/\/(?:[^/@]*@)?([^/:]+)(?::\d+)?\/(.+)$/.exec(remote) ?? /^(?:[^/@:]+@)?([^/:]+):([^/].*)$/.exec(remote) ?? [];
  if (host === undefined || path === undefined) return undefined;
  return `https://${host}/${path.replace(/\/+$/, '').replace(/\.git$/, '')}`;
}

async function repositoryOf(dir: string, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const [server, name] = [envOf('GITHUB_SERVER_URL', env), envOf('GITHUB_REPOSITORY', env)];
  if (server !== undefined && name !== undefined) return `${server}/${name}`;
  return git(dir, 'remote', 'get-url', 'origin').then(remoteUrl, () => undefined);
}

/** The checkout and the builder for the build records of this run. */
export async function buildContext(dir: string = REPOSITORY, env: NodeJS.ProcessEnv = process.env): Promise<BuildContext> {
  const commit = await gitCommit(dir);
  const repository = commit === undefined ? undefined : await repositoryOf(dir, env);
  const [server, workflow] = [envOf('GITHUB_SERVER_URL', env), envOf('GITHUB_WORKFLOW_REF', env)];
  const builder = server === undefined || workflow === undefined ? undefined : `${server}/${workflow}`;
  return { gitCommit: commit, repository, builder };
}

/** Throws a UserError if images are for publishing and their build records would name no commit. */
export async function assertCommit({ gitCommit: commit }: BuildContext, profile: Profile, dir: string = REPOSITORY): Promise<void> {
  if (commit !== undefined || profile !== 'publish') return;
  throw new UserError(`the build record would name no commit: ${await whyNoCommit(dir)}`, {
    where: dir,
    next: 'build images for publishing in a git checkout that git can read, and others with --profile fast',
  });
}

/** Reports that build records name no commit, and why. */
export async function noticeNoCommit({ gitCommit: commit }: BuildContext, report: Report, dir: string = REPOSITORY): Promise<void> {
  if (commit === undefined) report({ type: 'notice', text: `the build record names no commit: ${await whyNoCommit(dir)}` });
}
