import { basename, join } from 'node:path';
import { exec, loadDefinition, matchingVersions, newestFirst, readPins, UserError, type Pins } from '@flatcar/core/engine';
import type { CheckedPin, UpstreamContext } from '@flatcar/upstream';
import { readFile } from 'node:fs/promises';
import { baseCommit } from './base-commit.ts';
import { REPOSITORY } from './select.ts';

/** The lock files of a commit, by their paths in this checkout. */
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

/** Checks the pins of extensions: of one version where it is specified, of all pinned ones otherwise. */
export async function checkExtensions(
  chosen: readonly { readonly dir: string; readonly version?: string | undefined }[],
  before: ReadonlyMap<string, Pins> | undefined,
  context: UpstreamContext,
): Promise<CheckedPin[]> {
  const { checkPins } = await import('@flatcar/upstream');
  const seen = new Set<string>();
  const checked: CheckedPin[] = [];
  for (const { dir, version } of chosen) {
    const extension = await loadDefinition(dir);
    const file = join(dir, 'pins.json');
    const pinned = newestFirst(Object.keys(readPins(await readFile(file, 'utf8'), file)));
    const versions = matchingVersions(pinned, version);
    if (versions.length === 0)
      throw new UserError(`${extension.name} ${version ?? ''} is not pinned`, {
        where: file,
        next: `pinned versions: ${pinned.join(', ')}`,
      });
    for (const one of versions) {
      const request = { dir, extension, version: one, seen };
      checked.push(...(await checkPins(before === undefined ? request : { ...request, before }, context)));
    }
  }
  return checked;
}
