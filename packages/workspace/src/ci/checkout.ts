import { createHash } from 'node:crypto';
import { access, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { exec, UserError } from '@flatcar/core/engine';

/** The only paths that pull requests may change. */
const PROPOSED = ['extensions', 'packages', 'README.md'];
/** The identity of the author of updates. */
export const BOT = { name: 'flatcar-ext', email: 'flatcar-ext@users.noreply.github.com' };

/** A change: a commit that is on no branch of the checkout. */
export interface Change {
  readonly commit: string;
  /** Changed paths, relative to the checkout. */
  readonly paths: readonly string[];
  /** Digest of all changed files, except dates in changelogs. */
  readonly content: string;
  /** Digest of the lines that the change adds and removes in locks and lists: the same for the same versions, whatever else changed. */
  readonly versions: string;
}

/** Trailer of a commit message with the digest of the change, by which the next run recognizes its own commit. */
export const TRAILER = 'Update-Content';

/** A checkout in which one step after another changes files. */
export interface Checkout {
  readonly dir: string;
  /** The commit that all changes are made on. */
  readonly head: string;
  readonly git: (args: readonly string[], input?: string) => Promise<string>;
  /** Those of the paths for pull requests that exist. */
  readonly paths: () => Promise<string[]>;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const changelogDates = (text: string): string => text.replaceAll(/^(## .*) \(\d{4}-\d{2}-\d{2}\)$/gm, '$1');

/** Opens a checkout for updates. Throws a UserError if it has changes, since each step begins by removing what the former one left. */
export async function openCheckout(dir: string): Promise<Checkout> {
  // No hook and no file system monitor of the checkout's configuration is run.
  const plain = ['-c', 'core.hooksPath=/dev/null', '-c', 'core.fsmonitor=false', '-c', 'core.quotePath=false'];
  const git = (args: readonly string[], input?: string): Promise<string> =>
    exec('git', [...plain, ...args], input === undefined ? { cwd: dir } : { cwd: dir, input });
  const paths = async (): Promise<string[]> => {
    const there = await Promise.all(
      PROPOSED.map((path) =>
        access(join(dir, path)).then(
          () => [path],
          () => [],
        ),
      ),
    );
    return there.flat();
  };
  const head = await git(['rev-parse', '--verify', 'HEAD^{commit}']);
  const dirty = `${await git(['status', '--porcelain', '--untracked-files=no'])}\n${await git(['status', '--porcelain', '--untracked-files=all', '--', ...PROPOSED])}`;
  if (dirty.trim() !== '')
    throw new UserError(`the checkout has changes that are not committed:\n${dirty.trim().split('\n').slice(0, 10).join('\n')}`, {
      where: dir,
      next: 'commit or stash them first: each step starts from a clean checkout',
    });
  return { dir, head, git, paths };
}

/**
 * Removes what a step left: resets tracked files and the index to `commit`, and removes untracked files in the folders for pull requests.
 * Ignored files (node_modules, dist) and other untracked files stay.
 */
export async function cleanCheckout({ dir, git, head }: Checkout, commit = head): Promise<void> {
  // A killed step may have left the lock; no other git runs in this checkout now.
  await rm(resolve(dir, await git(['rev-parse', '--git-path', 'index.lock'])), { force: true });
  await git(['reset', '--hard', '--quiet', head]);
  // Twice, to remove nested repositories, too.
  await git(['clean', '--force', '--force', '-d', '--quiet', '--', ...PROPOSED]);
  if (commit !== head) await git(['restore', `--source=${commit}`, '--staged', '--worktree', '--', '.']);
}

/** Commits the files in the folders for pull requests on top of head; returns undefined if nothing differs from `parent`. */
export async function commitChange(checkout: Checkout, message: string, parent = checkout.head): Promise<Change | undefined> {
  const { git, head } = checkout;
  await git(['add', '--all', '--', ...(await checkout.paths())]);
  const tree = await git(['write-tree']);
  if (tree === (await git(['rev-parse', `${parent}^{tree}`]))) return undefined;
  const raw = await git(['diff-tree', '-r', '--raw', '-z', '--no-renames', '--no-abbrev', head, tree]);
  const fields = raw.split('\0').filter((field) => field !== '');
  const files: { path: string; mode: string; blob: string }[] = [];
  for (let index = 0; index + 1 < fields.length; index += 2) {
    const [, mode = '', , blob = ''] = (fields[index] ?? '').split(' ');
    files.push({ path: fields[index + 1] ?? '', mode, blob });
  }
  const lines = await Promise.all(
    files.map(async ({ path, mode, blob }) => {
      const isChangelog = path.endsWith('/CHANGELOG.md') && !/^0+$/.test(blob);
      return `${mode} ${isChangelog ? sha256(changelogDates(await git(['cat-file', 'blob', blob]))) : blob} ${path}\n`;
    }),
  );
  const content = sha256(lines.join(''));
  const diff = await git([
    'diff-tree',
    '-r',
    '-p',
    '--unified=0',
    '--no-color',
    '--no-ext-diff',
    '--no-textconv',
    '--no-renames',
    head,
    tree,
    '--',
    '.',
    ':(exclude,glob)**/CHANGELOG.md',
    ':(exclude,glob)**/README.md',
  ]);
  // Line numbers and digests of whole files depend on other lines.
  const versions =
    diff === ''
      ? content
      : sha256(
          diff
            .split('\n')
            .filter((line) => !/^(?:@@|index |diff )/.test(line))
            .join('\n'),
        );
  const who = ['-c', `user.name=${BOT.name}`, '-c', `user.email=${BOT.email}`];
  const commit = await git([...who, 'commit-tree', tree, '-p', head], `${message.trim()}\n\n${TRAILER}: ${content}\n`);
  return { commit, paths: files.map(({ path }) => path), content, versions };
}
