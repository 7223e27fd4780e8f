import { relative } from 'node:path';
import { UserError, UserErrors } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { REPOSITORY } from '@flatcar/workspace/select';
import { show } from '../output/terminal.ts';
import { addHelp } from '../help.ts';
import { jsonOption } from '../options.ts';

interface Flags {
  readonly check?: boolean;
  readonly sizes?: boolean;
  readonly json?: boolean;
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
      const { changedVersions, stalePages, writePages } = await import('@flatcar/workspace/generated-docs');
      const { packagingError } = await import('@flatcar/workspace/packaging-check');
      const pages = await stalePages(names, { sizes: flags.sizes });
      const files = pages.map(({ file }) => relative(REPOSITORY, file));
      if (flags.check !== true) await writePages(pages);
      show({ current: files.length === 0, files }, flags.json, () =>
        files.length === 0
          ? 'all pages are current'
          : files.map((file) => `${flags.check === true ? 'not current:' : 'wrote'} ${file}`).join('\n'),
      );
      if (flags.check !== true) return;
      const stale = new UserError(`${files.length} file${files.length === 1 ? ' is' : 's are'} not current`, {
        next: 'run flatcar-ext docs, and commit what it writes',
      });
      const changed = packagingError(await changedVersions(names));
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
