import { exec, UserError } from '@flatcar/core';
import * as v from 'valibot';
import { ask, type GitHub } from './issues.ts';

const Pulls = v.array(v.object({ number: v.number(), html_url: v.string() }));

/**
 * Puts what is changed in a checkout on a branch of its own and opens a pull request for it; the one that is open gets the new commit.
 * Undefined when nothing is changed. The token is given to git by its environment, so that no command line and no file shows it.
 */
export async function propose(
  github: GitHub & { readonly server: string },
  cwd: string,
  { branch, title, body, base }: { branch: string; title: string; body: string; base: string },
): Promise<string | undefined> {
  const { repository, token, server } = github;
  if (!/^[a-z0-9][a-z0-9./-]*$/.test(branch)) throw new UserError(`'${branch}' is no name for a branch`);
  const git = (args: readonly string[], env: Record<string, string> = {}): Promise<string> => exec('git', args, { cwd, env });
  if ((await git(['status', '--porcelain'])) === '') return undefined;
  await git(['checkout', '-B', branch]);
  await git(['add', '--all']);
  const who = ['-c', 'user.name=flatcar-ext', '-c', 'user.email=flatcar-ext@users.noreply.github.com'];
  await git([...who, 'commit', '--quiet', '--message', title, '--message', body]);
  await git(['push', '--quiet', '--force', `${server}/${repository}.git`, `${branch}:${branch}`], {
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: `http.${server}/.extraheader`,
    GIT_CONFIG_VALUE_0: `AUTHORIZATION: basic ${Buffer.from(`x-access-token:${token}`).toString('base64')}`,
  });
  const [owner = ''] = repository.split('/');
  const [open] = await ask(github, 'GET', `/pulls?state=open&head=${owner}:${encodeURIComponent(branch)}`, Pulls);
  if (open !== undefined) {
    await ask(github, 'PATCH', `/pulls/${open.number}`, v.unknown(), { title, body });
    return open.html_url;
  }
  const made = await ask(github, 'POST', '/pulls', v.object({ html_url: v.string() }), { title, body, head: branch, base });
  return made.html_url;
}
