import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { exec } from '@flatcar/core';

const REPOSITORY = resolve(import.meta.dirname, '../../../..');

/** A maintainer's clone of the repository that the fake GitHub serves. */
export interface Clone {
  readonly dir: string;
  git(...args: string[]): Promise<string>;
  /** Commits all that was changed and pushes it to main; gives the commit. */
  push(message: string): Promise<string>;
  json<T>(file: string, change: (value: T) => T): Promise<void>;
}

interface Lock {
  packages: Record<string, object>;
}

/** Leaves only some of the extensions in a checkout, in its lock too. */
async function keepExtensions(dir: string, keep: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(join(dir, 'extensions')))
    if (!keep.has(name)) await rm(join(dir, 'extensions', name), { recursive: true });
  const file = join(dir, 'package-lock.json');
  const lock = JSON.parse(await readFile(file, 'utf8')) as Lock;
  const gone = (path: string): boolean => {
    const [, name] = /^(?:extensions|node_modules\/@flatcar-extensions)\/([\w-]+)/.exec(path) ?? [];
    return name !== undefined && !keep.has(name);
  };
  const links = Object.entries(lock.packages).filter(([, one]) => gone(String((one as { resolved?: string }).resolved)));
  for (const path of [...Object.keys(lock.packages).filter(gone), ...links.map(([path]) => path)]) delete lock.packages[path];
  await writeFile(file, `${JSON.stringify(lock, undefined, 2)}\n`);
}

/** Clones the working tree, changes that are not committed included, with only `extensions` left; its `origin` is the bare repository. */
export async function cloneRepository(temp: string, bare: string, extensions: readonly string[]): Promise<Clone> {
  const dir = await mkdtemp(join(temp, 'clone-'));
  const copy = 'git ls-files -co --exclude-standard -z | tar --null --ignore-failed-read -T - -cf - | tar -xf - -C "$1" --no-same-owner';
  await exec('sh', ['-euc', copy, 'sh', dir], { cwd: REPOSITORY });
  await keepExtensions(dir, new Set(extensions));
  // The catalogue that tests see: no new release changes what they publish.
  await cp(join(dir, 'packages/testing/fixtures/releases.json'), join(dir, 'packages/core/src/data/releases.json'));
  const git = (...args: string[]): Promise<string> =>
    exec('git', ['-c', 'user.name=maintainer', '-c', 'user.email=maintainer@example.org', ...args], { cwd: dir });
  await git('init', '--quiet', '--initial-branch=main');
  await git('remote', 'add', 'origin', bare);
  return {
    dir,
    git,
    push: async (message) => {
      await git('add', '--all');
      await git('commit', '--quiet', '--message', message);
      await git('push', '--quiet', 'origin', 'HEAD:main');
      await exec('chmod', ['-R', 'a+rX', dir]); // the runner's user reads the workflows here
      return git('rev-parse', 'HEAD');
    },
    json: async (file, change) => {
      const path = join(dir, file);
      await writeFile(path, `${JSON.stringify(change(JSON.parse(await readFile(path, 'utf8'))), undefined, 2)}\n`);
    },
  };
}

/** Copies an extension of the clone under another name, and gives its definition to be changed. */
export async function copyExtension(clone: Clone, from: string, to: string): Promise<void> {
  const dir = join(clone.dir, 'extensions', to);
  await mkdir(dir, { recursive: true });
  await cp(join(clone.dir, 'extensions', from), dir, { recursive: true });
}
