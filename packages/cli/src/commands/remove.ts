import type { Command } from 'commander';
import type { Removal } from '@flatcar/workspace/remove-extension';
import { addHelp } from '../help.ts';
import { jsonOption, type JsonFlag } from '../options.ts';
import { show } from '../output/terminal.ts';

const text = ({ extension, changed, mentions }: Removal): string =>
  [
    ...changed.map((path) => (path === `extensions/${extension}` ? `removed ${path}` : `wrote ${path}`)),
    ...mentions.map((path) => `still mentions it: ${path}`),
    '',
    'Published images of it stay in the tree, and nodes keep them. plan and publish add no more of them.',
    '',
    'Next:',
    '  npm run lint',
    `  git add -A extensions/${extension} package-lock.json README.md && git commit -m 'Remove ${extension}'`,
  ].join('\n');

/** `remove`: takes an extension away. */
export function addRemove(root: Command, signal: AbortSignal): void {
  const command = root
    .command('remove')
    .summary('remove an extension from this repository')
    .description('remove an extension from this repository: its folder, its entry in package-lock.json and its row in README.md')
    .argument('<extension>', 'name')
    .option('--force', 'remove it although its folder has changes that are not committed')
    .addOption(jsonOption())
    .action(async (name: string, flags: JsonFlag & { readonly force?: boolean }) => {
      const { removeExtension } = await import('@flatcar/workspace/remove-extension');
      show(await removeExtension(name, flags.force === true, signal), flags.json, text);
    });
  addHelp(command, {
    text: [
      'An extension that others name in requires or conflicts is refused. What is published stays published: withdraw replaces a version, retire removes images of unsupported releases.',
    ],
    examples: ['flatcar-ext remove btop', 'flatcar-ext remove btop --force'],
  });
}
