import { rm } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { exec, findExtensions, loadDefinition, UserError, UserErrors } from '@flatcar/core/engine';
import { updatePackageLock } from './package-lock.ts';
import { writeRootReadme } from './readme.ts';
import { REPOSITORY, unknownExtension } from './select.ts';

/** What taking an extension away did. */
export interface Removal {
  readonly extension: string;
  /** Paths in the repository that were removed or rewritten. */
  readonly changed: readonly string[];
  /** Files that still name its folder. */
  readonly mentions: readonly string[];
}

/** An error for each extension whose definition names this one: it could not be loaded afterwards. */
async function dependents(name: string, dirs: readonly string[]): Promise<UserError[]> {
  const errors = dirs.map(async (dir) => {
    const { name: other, requires, conflicts } = await loadDefinition(dir);
    const keys = Object.entries({ requires, conflicts }).flatMap(([key, names]) => (names.includes(name) ? [key] : []));
    const where = join(dir, 'extension.ts');
    return keys.map((key) => new UserError(`'${other}' names '${name}' in ${key}`, { where, next: `remove it from ${key} first` }));
  });
  return (await Promise.all(errors)).flat();
}

/** An error if git could not bring back what is in the folder. */
async function unsaved(dir: string): Promise<UserError[]> {
  const next = 'commit the changes first, or pass --force to lose them';
  const status = await exec('git', ['status', '--porcelain', '--', dir], { cwd: REPOSITORY }).catch(() => undefined);
  if (status === undefined)
    return [new UserError('git cannot tell whether the folder has changes', { where: dir, next: 'pass --force to remove it' })];
  return status === '' ? [] : [new UserError('the folder has changes that are not committed', { where: dir, next })];
}

/** Tracked files outside the folder of an extension that name it. */
async function mentionsOf(name: string): Promise<string[]> {
  const pattern = ['grep', '-l', '--fixed-strings', '--word-regexp', `extensions/${name}`, '--', '.', `:!extensions/${name}`];
  const found = await exec('git', pattern, { cwd: REPOSITORY }).catch(() => '');
  return found.split('\n').filter((path) => path !== '');
}

/**
 * Removes an extension: its folder, its entry in package-lock.json and its row in README.md. Throws UserErrors if other extensions name it in
 * their definitions, or, without `force`, if git could not bring it back. What is published stays published.
 */
export async function removeExtension(name: string, force: boolean, signal?: AbortSignal): Promise<Removal> {
  const dirs = await findExtensions(REPOSITORY);
  const dir = dirs.find((one) => basename(one) === name);
  if (dir === undefined) throw unknownExtension(name, dirs);
  const others = dirs.filter((one) => one !== dir);
  const objections = [...(await dependents(name, others)), ...(force ? [] : await unsaved(dir))];
  if (objections.length > 0) throw new UserErrors(`cannot remove '${name}'`, objections);
  await rm(dir, { recursive: true });
  await rm(join(REPOSITORY, 'node_modules', name), { force: true }); // npm's link to the folder
  await updatePackageLock(signal);
  const changed = [relative(REPOSITORY, dir), 'package-lock.json'];
  if (await writeRootReadme(REPOSITORY)) changed.push('README.md');
  return { extension: name, changed, mentions: await mentionsOf(name) };
}
