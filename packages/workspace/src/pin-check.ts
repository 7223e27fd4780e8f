import { basename, join, relative } from 'node:path';
import { exec, loadDefinition, loadExtension, matchingVersions, newestFirst, readPins, UserError, type Pins } from '@flatcar/core/engine';
import type { CheckedPin, UpstreamContext } from '@flatcar/upstream';
import { readFile } from 'node:fs/promises';
import { baseCommit } from './base-commit.ts';
import { packagingError, packagingProblems, type PackagingProblem } from './packaging-check.ts';
import { REPOSITORY } from './select.ts';

/** The locks in the commit at which this checkout branched off `ref`, by their paths in this checkout. */
export async function locksAt(ref: string, repository = REPOSITORY): Promise<Map<string, Pins>> {
  const git = (...args: string[]): Promise<string> => exec('git', args, { cwd: repository });
  const base = await baseCommit(ref, repository);
  const listed = await git('ls-tree', '-r', '-z', '--name-only', base, '--', 'extensions', 'packages/components');
  const files = listed.split('\0').filter((name) => basename(name) === 'pins.json');
  return new Map(
    await Promise.all(
      files.map(async (name): Promise<[string, Pins]> => {
        const file = join(repository, name);
        return [file, readPins(await git('show', `${base}:${name}`), `${name} of ${ref}`)];
      }),
    ),
  );
}

/** The result of a check. */
export interface PinCheck {
  readonly checked: readonly CheckedPin[];
  /** Versions that were changed under their revision. */
  readonly changed: readonly PackagingProblem[];
}

/** An extension, and a version of it; all pinned versions by default. */
interface ToCheck {
  readonly dir: string;
  readonly version?: string;
}

async function pinnedVersions({ dir, version }: ToCheck): Promise<readonly string[]> {
  const file = join(dir, 'pins.json');
  const pinned = newestFirst(Object.keys(readPins(await readFile(file, 'utf8'), file)));
  const versions = matchingVersions(pinned, version);
  if (versions.length > 0) return versions;
  throw new UserError(`${basename(dir)} ${version ?? ''} is not pinned`, { where: file, next: `pinned versions: ${pinned.join(', ')}` });
}

/** Compares the pins of extensions with upstream. With a base commit only those that differ from it are compared. */
export async function checkExtensions(chosen: readonly ToCheck[], base: string | undefined, context: UpstreamContext): Promise<PinCheck> {
  const { checkPins } = await import('@flatcar/upstream');
  const before = base === undefined ? undefined : await locksAt(base);
  const seen = new Set<string>();
  const checked: CheckedPin[] = [];
  const changed: PackagingProblem[] = [];
  for (const one of chosen) {
    const { dir, version } = one;
    const extension = await loadDefinition(dir);
    for (const each of await pinnedVersions(one))
      checked.push(...(await checkPins({ dir, extension, version: each, seen, before }, context)));
    const problems = await packagingProblems(await loadExtension(dir), before && (before.get(join(dir, 'pins.json')) ?? {}));
    changed.push(...problems.filter((problem) => matchingVersions([problem.version], version).length > 0));
  }
  return { checked, changed };
}

/** The error for pins that differ from upstream, else for versions that were changed; undefined if there are none. */
export function pinErrors({ checked, changed }: PinCheck): UserError | undefined {
  const wrong = checked.filter(({ state }) => state === 'different');
  if (wrong.length === 0) return packagingError(changed);
  return new UserError(`${wrong.length} pins differ from upstream`, {
    where: [...new Set(wrong.map(({ file }) => relative(REPOSITORY, file)))].join(', '),
    next: 'find out why before you merge them; flatcar-ext pin NAME --revision pins what upstream has now',
  });
}
