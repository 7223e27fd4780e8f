// Stands in for actions/checkout: the commit of the run, out of the fake GitHub by git over http.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { input, need, run } from './toolkit.ts';

await run(async () => {
  const workspace = need('GITHUB_WORKSPACE');
  const git = (...args: string[]): void => void execFileSync('git', args, { cwd: workspace, stdio: 'inherit' });
  git('init', '--quiet', '--initial-branch', need('GITHUB_REF_NAME'));
  git('remote', 'add', 'origin', `${need('GITHUB_SERVER_URL')}/${need('GITHUB_REPOSITORY')}`);
  const commit = input('ref') || need('GITHUB_SHA');
  const depth = input('fetch-depth') || '1';
  git('fetch', '--quiet', ...(depth === '0' ? ['origin', '+refs/heads/*:refs/remotes/origin/*'] : [`--depth=${depth}`, 'origin', commit]));
  git('checkout', '--quiet', '--force', '-B', need('GITHUB_REF_NAME'), commit);
  if (input('persist-credentials') !== 'false') throw new Error('the token is kept in the checkout: persist-credentials is not false');
  // What `npm ci` installed for the same lock is linked, for the sake of time.
  const installed = process.env['STANDIN_INSTALLED'];
  if (installed === undefined || installed === '' || !existsSync(installed)) return;
  for (const folder of ['node_modules', 'scripts/toolchain/node_modules'])
    if (existsSync(join(installed, folder)))
      execFileSync('cp', ['--archive', '--link', join(installed, folder), join(workspace, folder)], { stdio: 'inherit' });
});
