import { inLine } from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import type { ImportedRecipe } from '@flatcar/workspace/bakery/import-bakery';
import { addHelp } from '../help.ts';
import { jsonOption, type JsonFlag } from '../options.ts';
import { show, table } from '../output/terminal.ts';

const STATUS = {
  written: 'written',
  exists: 'not written: an extension of this name exists',
  undecided: 'not written: too little can be told without running it',
} as const satisfies Record<ImportedRecipe['status'], string>;

function text(recipes: readonly ImportedRecipe[]): string {
  return [
    table([
      ['recipe', 'to decide', 'result'],
      ...recipes.map(({ name, status, decisions }) => [name, String(decisions.length), STATUS[status]]),
    ]),
    ...recipes.flatMap(({ name, decisions }) =>
      decisions.length === 0 ? [] : ['', `${name}:`, ...decisions.map(({ where, what }) => `  ${inLine(`${where}: ${what}`)}`)],
    ),
    '',
    'Next, for each written extension: decide, then flatcar-ext pin NAME and flatcar-ext build NAME.',
  ].join('\n');
}

/** `import-bakery`: extensions from recipes of the sysext-bakery. */
export function addImportBakery(root: Command): void {
  const command = root
    .command('import-bakery')
    .summary('write extensions from recipes of a sysext-bakery')
    .description('write extensions from the recipes of a checkout of the sysext-bakery, or of a fork, and list what a person must decide')
    .argument('<folder>', 'the checkout, with folders NAME.sysext')
    .argument('[names...]', 'recipes to import (default: all)')
    .addOption(new Option('--out <folder>', 'folder to write the extensions to').default(undefined, 'extensions/ of this checkout'))
    .addOption(jsonOption())
    .action(async (folder: string, names: string[], { out, json }: JsonFlag & { readonly out?: string }) => {
      const { importBakery } = await import('@flatcar/workspace/bakery/import-bakery');
      const { extensionsFolder, REPOSITORY } = await import('@flatcar/workspace/select');
      show(await importBakery({ bakery: folder, names, out: out ?? extensionsFolder(REPOSITORY) }), json, text);
    });
  addHelp(command, {
    text: ['Recipes are read, and never run: what only a run would know is listed. An extension that exists is left as it is.'],
    examples: ['flatcar-ext import-bakery ../sysext-bakery --out /tmp/imported', 'flatcar-ext import-bakery ../sysext-bakery coder opkssh'],
  });
}
