import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findExtensions, loadExtension, newestFirst, writeAtomic } from '@flatcar/core/engine';
import { readImageFile } from './image-file.ts';
import { packagingProblems, type PackagingProblem } from './packaging-check.ts';
import { readmeText, rootReadmeText, type ImageSize } from './readme.ts';
import { REFERENCE, referenceText } from './reference.ts';
import { findDirs, REPOSITORY } from './select.ts';

/** A generated page. */
export interface Page {
  readonly file: string;
  /** Undefined if the file does not exist. */
  readonly before: string | undefined;
  readonly after: string;
}

/** The sizes of the images of a version in an extension's dist/ that were packed for publishing; undefined if there are none. */
async function measureSizes(dir: string, version: string): Promise<ImageSize[] | undefined> {
  const sizes: ImageSize[] = [];
  for (const file of (await Array.fromAsync(glob('dist/*/*.raw', { cwd: dir }))).toSorted()) {
    const { manifest } = await readImageFile(join(dir, file));
    if (manifest.profile === 'publish' && manifest.upstream === version) sizes.push(manifest);
  }
  return sizes.length === 0 ? undefined : sizes;
}

/** The pages that are not current: READMEs of extensions (all by default), the list in the root README, and the reference of definitions. */
export async function stalePages(names: readonly string[], { sizes = false, repository = REPOSITORY } = {}): Promise<Page[]> {
  const readmes = (await findDirs(names, repository)).map(async (dir) => {
    const file = join(dir, 'README.md');
    const before = await readFile(file, 'utf8').catch(() => undefined);
    const loaded = await loadExtension(dir);
    const measured = sizes ? await measureSizes(dir, newestFirst(Object.keys(loaded.pins))[0] ?? '') : undefined;
    return { file, before, after: await readmeText(loaded, before, measured) };
  });
  const root = join(repository, 'README.md');
  const before = await readFile(root, 'utf8');
  const reference = join(repository, REFERENCE);
  const pages: Page[] = [
    ...(await Promise.all(readmes)),
    { file: root, before, after: await rootReadmeText(before, await findExtensions(repository), root) },
    { file: reference, before: await readFile(reference, 'utf8').catch(() => undefined), after: await referenceText(repository) },
  ];
  return pages.filter((page) => page.before !== page.after);
}

/** Writes pages. */
export async function writePages(pages: readonly Page[]): Promise<void> {
  for (const { file, after } of pages) await writeAtomic(file, after);
}

/** The versions of extensions that were changed since they were pinned: their READMEs would describe other bytes than the published ones. */
export async function changedVersions(names: readonly string[]): Promise<PackagingProblem[]> {
  const dirs = await findDirs(names);
  return (await Promise.all(dirs.map(async (dir) => packagingProblems(await loadExtension(dir))))).flat();
}
