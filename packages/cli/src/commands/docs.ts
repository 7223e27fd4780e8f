import { glob, readFile } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { findExtensions, loadExtension, newestFirst, UserError, UserErrors, writeAtomic } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption } from '../options.ts';
import { readImageFile } from '@flatcar/workspace/image-file';
import { REPOSITORY, unknownExtension } from '@flatcar/workspace/select';
import { packagingError, packagingProblems, type PackagingProblem } from '@flatcar/workspace/packaging-check';
import { REFERENCE, referenceText } from '@flatcar/workspace/reference';
import { readmeText, rootReadmeText, sizesTable } from '@flatcar/workspace/readme';
import { formatBytes, show } from '../output/terminal.ts';

interface Flags {
  readonly check?: boolean;
  readonly sizes?: boolean;
  readonly json?: boolean;
}

/** A page that is written, or that is not as it must be. */
interface Page {
  readonly file: string;
  readonly before: string | undefined;
  readonly after: string;
}

/** The sizes of the release images in an extension's dist/, as a table; nothing where there are none. */
async function measured(dir: string, version: string): Promise<string | undefined> {
  const files = (await Array.fromAsync(glob('dist/*/*.raw', { cwd: dir }))).toSorted();
  const rows: string[][] = [];
  for (const file of files) {
    const { manifest } = await readImageFile(join(dir, file));
    // Only what was packed for publishing has the size that users will see.
    if (manifest.profile !== 'publish' || !(manifest.version === version || manifest.version.startsWith(`${version}-`))) continue;
    rows.push([manifest.version, manifest.target, manifest.architecture, formatBytes(manifest.size)]);
  }
  return rows.length === 0 ? undefined : sizesTable(rows);
}

function chosenOf(names: readonly string[], dirs: readonly string[]): readonly string[] {
  const unknown = names.find((name) => !dirs.some((dir) => basename(dir) === name));
  if (unknown !== undefined) throw unknownExtension(unknown, dirs);
  return dirs.filter((dir) => names.length === 0 || names.includes(basename(dir)));
}

/** Versions that were changed since they were pinned: their READMEs would speak of other bytes than those that are published. */
async function changedPackaging(names: readonly string[]): Promise<PackagingProblem[]> {
  const chosen = chosenOf(names, await findExtensions(REPOSITORY));
  return (await Promise.all(chosen.map(async (dir) => packagingProblems(await loadExtension(dir))))).flat();
}

async function pagesOf(names: readonly string[], withSizes: boolean): Promise<Page[]> {
  const dirs = await findExtensions(REPOSITORY);
  const chosen = chosenOf(names, dirs);
  const pages = await Promise.all(
    chosen.map(async (dir) => {
      const file = join(dir, 'README.md');
      const before = await readFile(file, 'utf8').catch(() => undefined);
      const loaded = await loadExtension(dir);
      const sizes = withSizes ? await measured(dir, newestFirst(Object.keys(loaded.pins))[0] ?? '') : undefined;
      return { file, before, after: await readmeText(loaded, before, sizes) };
    }),
  );
  const root = join(REPOSITORY, 'README.md');
  const before = await readFile(root, 'utf8');
  const reference = join(REPOSITORY, REFERENCE);
  return [
    ...pages,
    { file: root, before, after: await rootReadmeText(before, dirs, root) },
    { file: reference, before: await readFile(reference, 'utf8').catch(() => undefined), after: await referenceText(REPOSITORY) },
  ];
}

/** `docs`: the generated parts of READMEs, and the reference of definitions. */
export function addDocs(root: Command): void {
  const command = root
    .command('docs')
    .summary('write the generated parts of READMEs')
    .description('write the generated parts of READMEs, and the reference of definitions and tests')
    .argument('[extensions...]', 'names (default: all)')
    .option('--check', 'write nothing, and fail if something is not current')
    .option('--sizes', 'write the sizes of the publishable images in dist/, too; --check ignores sizes')
    .addOption(jsonOption())
    .action(async (names: string[], flags: Flags) => {
      const pages = (await pagesOf(names, flags.sizes === true)).filter(({ before, after }) => before !== after);
      const files = pages.map(({ file }) => relative(REPOSITORY, file));
      if (flags.check !== true) for (const { file, after } of pages) await writeAtomic(file, after);
      show({ current: files.length === 0, files }, flags.json, () =>
        files.length === 0
          ? 'all are current'
          : files.map((file) => `${flags.check === true ? 'not current:' : 'wrote'} ${file}`).join('\n'),
      );
      if (flags.check !== true) return;
      const stale = new UserError(`${files.length} file${files.length === 1 ? ' is' : 's are'} not current`, {
        next: 'flatcar-ext docs writes them; commit that',
      });
      const changed = packagingError(await changedPackaging(names));
      const errors = [...(files.length === 0 ? [] : [stale]), ...(changed === undefined ? [] : [changed])];
      const [first] = errors;
      if (first !== undefined) throw errors.length === 1 ? first : new UserErrors('something is not current', errors);
    });
  addHelp(command, {
    text: [
      'Everything except sizes is derived from extension.ts, pins.json, files/ and tests, so that --check needs no images. --check also fails for versions whose files or definition were changed since they were pinned.',
    ],
    examples: [
      'flatcar-ext docs',
      'flatcar-ext docs --check',
      '# write sizes, too',
      'flatcar-ext build helm --profile publish --arch x86-64,arm64 && flatcar-ext docs helm --sizes',
    ],
  });
}
