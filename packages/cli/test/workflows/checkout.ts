import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '@flatcar/core/engine';
import { copyRepository } from '@flatcar/testing/checkout';

/** The newest stable and beta release of the catalogue that tests see: they take one format each. */
const RELEASES = new Set(['4593.2.5', '4757.1.0']);
/** The catalogue of releases in a checkout. */
export const CATALOGUE = 'packages/core/src/model/data/releases.json';

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
  await copyRepository(dir);
  await keepExtensions(dir, new Set(extensions));
  // Two releases, one for each format, whatever Flatcar releases.
  const releases = JSON.parse(await readFile(join(dir, 'packages/testing/fixtures/releases.json'), 'utf8')) as { number: string }[];
  const kept = releases.filter(({ number }) => RELEASES.has(number));
  await writeFile(join(dir, CATALOGUE), `${JSON.stringify(kept, undefined, 2)}\n`);
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
