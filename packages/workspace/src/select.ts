import { basename, join, resolve } from 'node:path';
import {
  closest,
  findExtensions,
  loadExtension,
  matchingVersions,
  newestFirst,
  parseRef,
  UsageError,
  type LoadedExtension,
} from '@flatcar/core/engine';

/** The repository that this program belongs to. */
export const REPOSITORY = resolve(import.meta.dirname, '../../..');

/** The folder with all extensions of a repository. */
export const extensionsFolder = (repository: string): string => join(repository, 'extensions');

/** What to do about a name that no extension has. */
export function similarExtensions(name: string, dirs: readonly string[]): string {
  const similar = closest(
    name,
    dirs.map((dir) => basename(dir)),
  );
  return similar.length === 0 ? 'flatcar-ext list shows the extensions' : `did you mean ${similar.map((one) => `'${one}'`).join(' or ')}?`;
}

/** The error for a name that no extension has. */
export function unknownExtension(name: string, dirs: readonly string[]): UsageError {
  return new UsageError(`there is no extension '${name}'`, { where: extensionsFolder(REPOSITORY), next: similarExtensions(name, dirs) });
}

/** The folders of the named extensions, in the order of the folders; all without names. Throws a UsageError for an unknown name. */
export async function findDirs(names: readonly string[] = [], repository: string = REPOSITORY): Promise<string[]> {
  const dirs = await findExtensions(repository);
  const known = new Set(dirs.map((dir) => basename(dir)));
  const unknown = names.filter((name) => !known.has(name));
  if (unknown.length > 0) throw unknownExtension(unknown.join("', '"), dirs);
  return names.length === 0 ? dirs : dirs.filter((dir) => names.includes(basename(dir)));
}

/** The folder of an extension. Throws a UsageError for an unknown name. */
export async function findDir(name: string, repository: string = REPOSITORY): Promise<string> {
  const [dir] = await findDirs([name], repository);
  if (dir === undefined) throw unknownExtension(name, []);
  return dir;
}

/** An extension of a repository by its name; undefined if there is none. */
export async function findNamed(name: string, repository: string = REPOSITORY): Promise<LoadedExtension | undefined> {
  const dir = (await findExtensions(repository)).find((one) => basename(one) === name);
  return dir === undefined ? undefined : loadExtension(dir);
}

/** The definitions and pins of the named extensions; of all without names. */
export async function loadAll(names: readonly string[] = [], repository: string = REPOSITORY): Promise<LoadedExtension[]> {
  return Promise.all((await findDirs(names, repository)).map((dir) => loadExtension(dir)));
}

/** An extension and one of its pinned versions. */
export interface Chosen {
  readonly loaded: LoadedExtension;
  readonly version: string;
}

/** The name of the extension whose folder is the current one. */
function currentExtension(dirs: readonly string[]): string {
  const here = dirs.find((dir) => dir === process.cwd());
  if (here !== undefined) return basename(here);
  throw new UsageError('no extension was named', {
    where: process.cwd(),
    next: 'name one, or run this in the folder of an extension; flatcar-ext list shows the extensions',
  });
}

/**
 * Extensions as arguments name them: `kubernetes` (its newest version), `kubernetes@1.36.4`, or a minor, `kubernetes@1.36`.
 * Without names: the extension of the current folder.
 */
export async function chooseExtensions(names: readonly string[], pins?: string): Promise<Chosen[]> {
  const dirs = await findExtensions(REPOSITORY);
  const wanted = names.length === 0 ? [currentExtension(dirs)] : [...new Set(names)];
  return Promise.all(
    wanted.map(async (word) => {
      const { name, version } = parseRef(word);
      const dir = dirs.find((one) => basename(one) === name);
      if (dir === undefined) throw unknownExtension(name, dirs);
      const loaded = await loadExtension(dir, pins);
      const pinned = newestFirst(Object.keys(loaded.pins));
      const [found] = matchingVersions(pinned, version);
      if (found === undefined)
        throw new UsageError(`${name}${version === undefined ? '' : ` ${version}`} is not pinned`, {
          where: join(dir, 'pins.json'),
          next: `pinned versions: ${pinned.join(', ')}`,
        });
      return { loaded, version: found };
    }),
  );
}
