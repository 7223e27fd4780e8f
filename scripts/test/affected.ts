// What a change can affect: `npm run test:affected` and, through it, `flatcar-ext ci test`.
import { glob, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exec, UserError } from '@flatcar/core/engine';

const repository = new URL('../..', import.meta.url).pathname;

/** Folders whose tests a change affects. */
export interface Affected {
  /** Of extensions (`extensions/yq`): they, or a package that they are built of, changed. */
  readonly extensions: readonly string[];
  /** Of packages (`packages/core`) that changed themselves. */
  readonly packages: readonly string[];
  /** Projects of vitest that test what changed and are not among those of `npm test`. */
  readonly projects: readonly string[];
}

/** Packages that build or test every extension: a change of one is tested by the small extensions, instead of all. */
const SHARED = new Set(['cli', 'core', 'github', 'publish', 'testing', 'upstream', 'workspace'].map((name) => `packages/${name}`));

/** Changes that a project of its own tests: what runs workflows, and what knows other distributions. */
const PROJECTS: readonly (readonly [project: string, paths: RegExp])[] = [
  ['workflows', /^(?:\.github|packages\/(?:cli\/src\/commands|workspace\/src)\/ci)\//],
  ['ubuntu', /^(?:scripts\/(?:run|as-ubuntu)|packages\/core\/src\/(?:debian|tools)\/)/],
];

/** The branch that changes are made for: the remote's, where there is one. */
export async function defaultBase(): Promise<string> {
  return exec('git', ['rev-parse', '--quiet', '--verify', 'origin/main'], { cwd: repository }).then(
    () => 'origin/main',
    () => 'main',
  );
}

/** Paths that differ from where a branch left `base`, uncommitted and new files included. */
async function changedPaths(base: string): Promise<string[]> {
  const git = (...args: string[]): Promise<string> => exec('git', args, { cwd: repository });
  const from = await git('merge-base', base, 'HEAD').catch((cause: unknown) => {
    throw new UserError(`this branch did not start from a commit '${base}'`, {
      next: 'fetch it with its history, or pass another with --base',
      cause,
    });
  });
  const outputs = await Promise.all([
    git('diff', '--name-only', '-z', from.trim()),
    git('ls-files', '-z', '--others', '--exclude-standard'),
  ]);
  return [...new Set(outputs.flatMap((output) => output.split('\0').filter(Boolean)))].toSorted();
}

/** Extensions that are built of a package, by their package.json; what they are only tested by does not count. */
async function usersOf(folder: string): Promise<string[]> {
  const read = async (file: string): Promise<{ name: string; dependencies?: Record<string, string> }> =>
    JSON.parse(await readFile(join(repository, file), 'utf8')) as { name: string };
  const { name } = await read(join(folder, 'package.json'));
  const users: string[] = [];
  for await (const file of glob('extensions/*/package.json', { cwd: repository }))
    if ((await read(file)).dependencies?.[name] !== undefined) users.push(dirname(file));
  return users;
}

/** The folder of a package or extension that a path is in. */
const folderOf = (path: string): string | undefined => /^(?:packages|extensions)\/[^/]+(?=\/)/.exec(path)?.[0];

/**
 * What a change since `base` affects. A change of a shared package affects every extension: `npm test` runs the small ones, and main runs all.
 * A change of packages/components affects the extensions that use a component.
 */
export async function affected(base: string): Promise<Affected> {
  const paths = await changedPaths(base);
  const changed = [...new Set(paths.flatMap((path) => folderOf(path) ?? []))];
  const own = changed.filter((folder) => folder.startsWith('packages/'));
  const users = await Promise.all(own.filter((folder) => !SHARED.has(folder)).map(usersOf));
  return {
    extensions: [...new Set([...changed.filter((folder) => folder.startsWith('extensions/')), ...users.flat()])].toSorted(),
    packages: own,
    projects: PROJECTS.filter(([, pattern]) => paths.some((path) => pattern.test(path))).map(([project]) => project),
  };
}
