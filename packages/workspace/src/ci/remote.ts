import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { exec, networkEnv, oneLine, outputOf, UserError } from '@flatcar/core/engine';
import { BOT, TRAILER, type Checkout } from './checkout.ts';
import type { GitHub } from './github.ts';

/** The newest commit of a branch at GitHub. */
export interface Tip {
  readonly commit: string;
  /** Names of its author and committer, where one of them is not this program. */
  readonly stranger: string | undefined;
  /** Digest of the change that it is, when this program made it. */
  readonly content: string | undefined;
}

/** The repository at GitHub, as git reaches it. */
export interface Remote {
  /** The newest commit of a branch; undefined where there is no such branch. */
  readonly tip: (branch: string) => Promise<Tip | undefined>;
  /** Replaces `before` by a commit, unless the branch has changed since: then it is an error. */
  readonly push: (branch: string, commit: string, before: string | undefined) => Promise<void>;
}

/**
 * Opens the remote of a checkout for the length of `use`. Git runs in a repository of its own that borrows the objects of the checkout:
 * what a step wrote into the configuration of the checkout has no say in what the token is used for. The token is passed by the
 * environment, so that no command line and no file has it.
 */
export async function withRemote<T>(checkout: Checkout, github: GitHub, use: (remote: Remote) => Promise<T>): Promise<T> {
  const { server, repository, token } = github;
  const dir = await mkdtemp(join(tmpdir(), 'flatcar-ext-push-'));
  const env = {
    ...networkEnv(),
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: `http.${server}/.extraheader`,
    GIT_CONFIG_VALUE_0: `AUTHORIZATION: basic ${Buffer.from(`x-access-token:${token}`).toString('base64')}`,
  };
  const git = (...args: string[]): Promise<string> =>
    exec('git', args, { cwd: dir, env, next: "check the permissions of the job's token" });
  const url = `${server}/${repository}.git`;
  try {
    await exec('git', ['init', '--quiet', '--bare', dir], { cwd: dir, env: { GIT_CONFIG_GLOBAL: '/dev/null' } });
    const at = async (path: string): Promise<string> => resolve(checkout.dir, await checkout.git(['rev-parse', '--git-path', path]));
    await writeFile(join(dir, 'objects/info/alternates'), `${await at('objects')}\n`);
    // Of a shallow checkout, where its history ends.
    await copyFile(await at('shallow'), join(dir, 'shallow')).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    return await use({
      async tip(branch) {
        const listed = await git('ls-remote', '--refs', url, `refs/heads/${branch}`);
        const commit = listed
          .split('\n')
          .find((line) => line.endsWith(`\trefs/heads/${branch}`))
          ?.slice(0, 40);
        if (commit === undefined) return undefined;
        await git('fetch', '--quiet', '--no-tags', '--depth=1', url, `+${commit}:refs/tips/${branch}`);
        const [author, authorEmail, committer, committerEmail, ...message] = (
          await git('log', '-1', '--format=%an%n%ae%n%cn%n%ce%n%B', commit)
        ).split('\n');
        const strangers = [
          [author, authorEmail],
          [committer, committerEmail],
        ]
          .filter(([, email]) => email !== BOT.email)
          .map(([name = '']) => name);
        const content = message.join('\n').match(new RegExp(`^${TRAILER}: ([0-9a-f]{64})$`, 'm'))?.[1];
        const isOurs = strangers.length === 0;
        return {
          commit,
          stranger: isOurs ? undefined : oneLine([...new Set(strangers)].join(', '), 100),
          content: isOurs ? content : undefined,
        };
      },
      async push(branch, commit, before) {
        const lease = `--force-with-lease=refs/heads/${branch}:${before ?? ''}`;
        await git('push', '--quiet', lease, url, `${commit}:refs/heads/${branch}`).catch((cause: unknown) => {
          if (!outputOf(cause).includes('stale info')) throw cause;
          throw new UserError(`the branch ${branch} was changed by somebody else during this run`, {
            cause,
            next: 'the next run looks again',
          });
        });
      },
    });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
