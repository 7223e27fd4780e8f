import { differenceText } from '../output/difference-text.ts';
import type { Command } from 'commander';
import { show } from '../output/terminal.ts';

/** `diff`: what changed between two images. */
export function addDiff(root: Command): void {
  root
    .command('diff')
    .description('show what differs between two images: versions, files, sizes')
    .argument('<before>')
    .argument('<after>')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  flatcar-ext diff old/kubernetes.portable_1.36.4_x86-64.raw new/kubernetes.portable_1.37.0_x86-64.raw',
    )
    .action(async (before: string, after: string, flags: { json?: boolean }) => {
      const { compareImages } = await import('@flatcar/workspace/diff');
      show(await compareImages(before, after), flags.json, differenceText);
    });
}
