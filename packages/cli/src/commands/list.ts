import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { type JsonFlag, jsonOption } from '../options.ts';
import { listComponents } from '@flatcar/workspace/list-components';
import { show, table } from '../output/terminal.ts';

/** `list`: extensions, versions and components of this repository. */
export function addList(root: Command): void {
  const command = root
    .command('list')
    .description('list extensions, their versions and components')
    .argument('[extensions...]', 'names, or parts of names (default: all)')
    .addOption(jsonOption())
    .action(async (words: string[], flags: JsonFlag) => {
      show(await listComponents(words), flags.json, (all) =>
        table([
          ['extension', 'version', 'component', 'version', 'origins', 'pinned', 'hash', 'signed', 'verified by'],
          ...all.map((row) => [
            row.extension,
            row.version,
            row.component,
            row.componentVersion,
            row.fromSource || row.origins.every((kind) => kind === 'files')
              ? row.origins.join(', ')
              : `${row.origins.join(', ')} (no source route)`,
            ...[row.pinned, row.hashPublished, row.signatureChecked].map((one) => (one ? 'yes' : 'no')),
            row.verified.join('; '),
          ]),
        ]),
      );
    });
  addHelp(command, {
    text: [
      'The columns pinned, hash and signed tell whether all bytes have a digest in pins.json, and whether a published hash and a signature were checked.',
    ],
    examples: ['flatcar-ext list', 'flatcar-ext list kubernetes hypervisor', 'flatcar-ext list --json'],
  });
}
