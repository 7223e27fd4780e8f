import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { exec } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { buildContext, gitCommit, remoteUrl, whyNoCommit } from '@flatcar/workspace/build-context';

let dir: string;
let commit: string;
const git = (...args: string[]): Promise<string> => exec('git', ['-c', 'user.name=t', '-c', 'user.email=t@t', ...args], { cwd: dir });
async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(dir, path)), { recursive: true });
  await writeFile(join(dir, path), text);
}
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'build-context-'));
  await git('init', '--quiet');
  const files = ['extensions/x/pins.json', 'extensions/x/README.md', 'packages/core/src/a.ts', 'package.json', 'docs/a.md'];
  for (const path of files) await write(path, '1');
  await write('.gitignore', 'dist/\nnode_modules/\n');
  await git('add', '--all');
  await git('commit', '--quiet', '--message', 'first');
  commit = await git('rev-parse', 'HEAD');
});
beforeEach(async () => {
  await git('reset', '--quiet', '--hard');
  await git('clean', '--quiet', '-ffdx');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('the commit of a build record', () => {
  test.each([
    ['nothing', []],
    ["the pipeline's own folders", ['built/a', 'images/x/portable/a.raw', 'payloads/a', 'outcomes/a.outcome.json', 'matrix.json.tmp']],
    ['notes and documents', ['docs/a.md', 'docs/b.md', 'NOTES', 'extensions/x/README.md']],
    ['what a build leaves', ['extensions/x/dist/a.raw', 'packages/core/node_modules/a/index.js']],
  ])('is plain with %s in the checkout', async (_, paths) => {
    for (const path of paths) await write(path, 'more');
    expect(await gitCommit(dir)).toBe(commit);
  });

  test.each([
    'extensions/x/pins.json',
    'packages/core/src/a.ts',
    'package.json',
    'extensions/x/files/usr/bin/new',
    'extensions/x/files/usr/share/dist/ignored-by-git',
    'packages/core/src/new.ts',
    'scripts/new.ts',
  ])('is -dirty with a change of %s, which can decide bytes', async (path) => {
    await write(path, 'more');
    expect(await gitCommit(dir)).toBe(`${commit}-dirty`);
  });

  test('is found in a checkout of somebody else', async ({ skip }) => {
    if (process.getuid?.() !== 0) return skip('only root can give files away');
    await chown(join(dir, '.git'), 65534, 65534);
    await chown(dir, 65534, 65534);
    await chmod(dir, 0o755);
    try {
      expect(await gitCommit(dir)).toBe(commit);
    } finally {
      await chown(dir, 0, 0);
      await chown(join(dir, '.git'), 0, 0);
    }
  });

  test('is not known where there is no git', async () => {
    const none = await mkdtemp(join(tmpdir(), 'no-git-'));
    expect(await gitCommit(none)).toBeUndefined();
    expect(await whyNoCommit(none)).toBe('the folder has no .git');
    // What git says of a repository that it cannot read; and that there is no git at all.
    await writeFile(join(none, '.git'), 'gitdir: /no/such/folder');
    expect(await gitCommit(none)).toBeUndefined();
    expect(await whyNoCommit(none)).toMatch(/^git says: fatal: not a git repository: .*\/no\/such\/folder/);
    const { PATH } = process.env;
    process.env['PATH'] = none;
    try {
      expect(await whyNoCommit(none)).toBe("'git' is not installed");
    } finally {
      process.env['PATH'] = PATH;
    }
    await rm(none, { recursive: true });
  });
});

describe('the repository of a build record', () => {
  test.each([
    ['https://github.com/owner/repo.git', 'https://github.com/owner/repo'],
    ['https://user:secret@git.example.org:8443/group/sub/repo/', 'https://git.example.org/group/sub/repo'],
    ['git@github.com:owner/repo.git', 'https://github.com/owner/repo'],
    ['ssh://git@git.example.org:2222/owner/repo', 'https://git.example.org/owner/repo'],
    ['/srv/repo.git', undefined],
    ['../repo', undefined],
    ['file:///srv/repo.git', undefined],
  ])('of the remote %s is %s', (remote, url) => {
    expect(remoteUrl(remote)).toBe(url);
  });

  test('is that of the workflow, with its server and the workflow as the builder', async () => {
    const env = {
      GITHUB_SERVER_URL: 'https://git.example.org',
      GITHUB_REPOSITORY: 'own/fork',
      GITHUB_WORKFLOW_REF: 'own/fork/.github/workflows/release.yml@refs/heads/main',
    };
    expect(await buildContext(dir, env)).toEqual({
      gitCommit: commit,
      repository: 'https://git.example.org/own/fork',
      builder: 'https://git.example.org/own/fork/.github/workflows/release.yml@refs/heads/main',
    });
    expect(await buildContext(dir, { GITHUB_SERVER_URL: '', GITHUB_REPOSITORY: '' })).toEqual({ gitCommit: commit });
    await git('remote', 'add', 'origin', 'git@git.example.org:own/laptop.git');
    expect(await buildContext(dir, {})).toEqual({ gitCommit: commit, repository: 'https://git.example.org/own/laptop' });
  });
});
