import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { exec, networkEnv, oneLine, UserError } from '@flatcar/core/engine';
import { BOT, TRAILER, type Checkout } from './checkout.ts';
import type { GitHub } from './github.ts';

/** The newest commit of a branch at GitHub. */
export interface Tip {
  readonly commit: string;
  /** Names of the author and the committer that are not this program; undefined if both are. */
  readonly stranger: string | undefined;
  /** Digest of the change in the commit; undefined if this program did not make it. */
  readonly content: string | undefined;
}

/** The repository at GitHub. */
export interface Remote {
  /** The newest commit of a branch; undefined if there is no such branch. */
  readonly tip: (branch: string) => Promise<Tip | undefined>;
  /** Replaces `before` by a commit. Throws a UserError if somebody else has changed the branch since. */
  readonly push: (branch: string, commit: string, before: string | undefined) => Promise<void>;
}

/** The remote, as git reaches it from a repository of its own. */
class GitRemote implements Remote {
  readonly #url: string;
  readonly #git: (...args: readonly string[]) => Promise<string>;

  constructor(url: string, git: (...args: readonly string[]) => Promise<string>) {
    this.#url = url;
    this.#git = git;
  }

  async #commitOf(branch: string): Promise<string | undefined> {
    const listed = await this.#git('ls-remote', '--refs', this.#url, `refs/heads/${branch}`);
    const line = listed.split('\n').find((one) => one.endsWith(`\trefs/heads/${branch}`));
    return line?.slice(0, 40);
  }

  async tip(branch: string): Promise<Tip | undefined> {
    const commit = await this.#commitOf(branch);
    if (commit === undefined) return undefined;
    await this.#git('fetch', '--quiet', '--no-tags', '--depth=1', this.#url, `+${commit}:refs/tips/${branch}`);
    const shown = await this.#git('log', '-1', '--format=%an%n%ae%n%cn%n%ce%n%B', commit);
    const [author = '', authorEmail, committer = '', committerEmail, ...message] = shown.split('\n');
    const strangers = [...(authorEmail === BOT.email ? [] : [author]), ...(committerEmail === BOT.email ? [] : [committer])];
    if (strangers.length > 0) return { commit, stranger: oneLine([...new Set(strangers)].join(', '), 100), content: undefined };
    const content = new RegExp(`^${TRAILER}: ([0-9a-f]{64})$`, 'm').exec(message.join('\n'))?.[1];
    return { commit, stranger: undefined, content };
  }

  async push(branch: string, commit: string, before: string | undefined): Promise<void> {
    const lease = `--force-with-lease=refs/heads/${branch}:${before ?? ''}`;
    try {
      await this.#git('push', '--quiet', lease, this.#url, `${commit}:refs/heads/${branch}`);
    } catch (cause) {
      const now = await this.#commitOf(branch).catch(() => before);
      if (now === before) throw cause;
      throw new UserError(`somebody else changed the branch ${branch} during this run`, { cause, next: 'wait for the next run' });
    }
  }
}

/** The environment for git at GitHub. The token is in the environment, so that it is on no command line and in no file. */
function gitEnvironment({ server, token }: GitHub): Record<string, string> {
  return {
    ...networkEnv(),
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: `http.${server}/.extraheader`,
    GIT_CONFIG_VALUE_0: `AUTHORIZATION: basic ${Buffer.from(`x-access-token:${token}`).toString('base64')}`,
  };
}

/** Makes a bare repository that borrows the objects of a checkout. */
async function initBorrowing(dir: string, checkout: Checkout): Promise<void> {
  await exec('git', ['init', '--quiet', '--bare', dir], { cwd: dir, env: { GIT_CONFIG_GLOBAL: '/dev/null' } });
  const at = async (path: string): Promise<string> => resolve(checkout.dir, await checkout.git(['rev-parse', '--git-path', path]));
  await writeFile(join(dir, 'objects/info/alternates'), `${await at('objects')}\n`);
  // Of a shallow checkout: the commits at which its history ends.
  await copyFile(await at('shallow'), join(dir, 'shallow')).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

/**
 * Opens the remote of a checkout while `use` runs. Git runs in a repository of its own that borrows the objects of the checkout: what a step
 * wrote into the configuration of the checkout cannot use the token.
 */
export async function withRemote<T>(checkout: Checkout, github: GitHub, use: (remote: Remote) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'flatcar-ext-push-'));
  const env = gitEnvironment(github);
  const git = (...args: readonly string[]): Promise<string> =>
    exec('git', args, { cwd: dir, env, next: "check the permissions of the job's token" });
  try {
    await initBorrowing(dir, checkout);
    return await use(new GitRemote(`${github.server}/${github.repository}.git`, git));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
