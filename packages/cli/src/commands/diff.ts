import { differenceText } from '../output/difference-text.ts';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption } from '../options.ts';
import { show } from '../output/terminal.ts';

/** `diff`: what changed between two images. */
export function addDiff(root: Command): void {
  const command = root
    .command('diff')
    .description('compare two images: versions, files, requirements and sizes')
    .argument('<before>', 'a .raw file with its manifest')
    .argument('<after>', 'another')
    .addOption(jsonOption())
    .action(async (before: string, after: string, flags: { json?: boolean }) => {
      const { compareImages } = await import('@flatcar/workspace/diff');
      show(await compareImages(before, after), flags.json, differenceText);
    });
  addHelp(command, {
    examples: [
      'flatcar-ext diff before/portable/yq.*.raw after/portable/yq.*.raw',
      'flatcar-ext diff before/portable/yq.*.raw after/portable/yq.*.raw --json',
    ],
  });
}
