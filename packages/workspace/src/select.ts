import { basename, join, resolve } from 'node:path';
import {
  findExtensions,
  loadExtension,
  matchingVersions,
  newestFirst,
  parseRef,
  UsageError,
  type LoadedExtension,
} from '@flatcar/core/engine';

/** The folder of the repository that this command belongs to. */
export const REPOSITORY = resolve(import.meta.dirname, '../../..');

/** The error for a name that is not an extension's. */
export function unknownExtension(name: string, dirs: readonly string[]): UsageError {
  return new UsageError(`there is no extension '${name}'`, {
    where: join(REPOSITORY, 'extensions'),
    next: `there are: ${dirs.map((dir) => basename(dir)).join(', ')}`,
  });
}

/** The definition and pins of an extension of this repository. */
export async function loadNamed(name: string): Promise<LoadedExtension> {
  const dirs = await findExtensions(REPOSITORY);
  const dir = dirs.find((one) => basename(one) === name);
  if (dir === undefined) throw unknownExtension(name, dirs);
  return loadExtension(dir);
}

/** An extension and one of its pinned versions. */
export interface Chosen {
  readonly loaded: LoadedExtension;
  readonly version: string;
}

/**
 * Extensions as arguments name them: `kubernetes` (its newest version), `kubernetes@1.36.4`, or a minor, `kubernetes@1.36`.
 * Without names: the extension of the current folder.
 */
export async function chooseExtensions(names: readonly string[], pins?: string): Promise<Chosen[]> {
  const dirs = await findExtensions(REPOSITORY);
  const wanted = [...names];
  if (wanted.length === 0) {
    const here = dirs.find((dir) => dir === process.cwd());
    if (here === undefined)
      throw new UsageError('no extension was named', {
        where: process.cwd(),
        next: `name one of: ${dirs.map((dir) => dir.split('/').at(-1)).join(', ')}`,
      });
    wanted.push(here.split('/').at(-1) ?? '');
  }
  return Promise.all(
    [...new Set(wanted)].map(async (word) => {
      const { name, version } = parseRef(word);
      const dir = dirs.find((one) => one.split('/').at(-1) === name);
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
