import { hostArch, parseArch, parseRef, targetName, UsageError } from '@flatcar/core/engine';
import type { Difference } from '@flatcar/core/engine';
import { treeTargets } from '@flatcar/workspace/tree-targets';
import { Option, type Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption } from '../options.ts';
import { differenceText } from '../output/difference-text.ts';
import { show } from '../output/terminal.ts';
import { addTreeOptions, readTreeOption, type TreeFlags } from '../published.ts';

interface Flags extends Partial<TreeFlags> {
  readonly release?: string;
  readonly arch?: string;
}

/** Compares two versions of a published tree. */
async function comparePublished(before: string, after: string, flags: Flags & { tree: string }, signal: AbortSignal): Promise<Difference> {
  const { openPublished } = await import('@flatcar/workspace/open-published');
  const compare = await import('@flatcar/workspace/published/compare');
  const targets = flags.release === undefined ? [] : treeTargets(flags.release);
  if (targets.length > 1) throw new UsageError('images of one release are compared', { where: '--release', next: 'specify one release' });
  return compare.comparePublished(await openPublished(flags, { signal }), parseRef(before), parseRef(after), {
    arch: flags.arch === undefined ? hostArch() : parseArch(flags.arch),
    target: targets.map(targetName)[0],
  });
}

/** `diff`: what changed between two images. */
export function addDiff(root: Command, signal: AbortSignal): void {
  const command = addTreeOptions(
    root
      .command('diff')
      .description('compare two images: versions, files, requirements and sizes')
      .argument('<before>', 'a .raw file with its manifest; with --tree, NAME@VERSION')
      .argument('<after>', 'another'),
    readTreeOption().default(undefined, 'compare files'),
  )
    .addOption(
      new Option('--release <target>', 'with --tree: portable, a channel or a release').default(undefined, 'the first that both have'),
    )
    .addOption(new Option('--arch <arch>', 'with --tree: x86-64 or arm64').default(undefined, "this machine's"))
    .addOption(jsonOption())
    .action(async (before: string, after: string, flags: Flags) => {
      const { tree } = flags;
      if (tree === undefined && (flags.release !== undefined || flags.arch !== undefined))
        throw new UsageError('--release and --arch choose images of a published tree', {
          next: 'specify --tree, or two files without them',
        });
      const { compareImages } = await import('@flatcar/workspace/diff');
      const difference = await (tree === undefined
        ? compareImages(before, after)
        : comparePublished(before, after, { ...flags, tree }, signal));
      show(difference, flags.json, differenceText);
    });
  addHelp(command, {
    text: ['Images of a published tree are compared by the signed records of their payloads: no image is downloaded.'],
    examples: [
      'flatcar-ext diff before/portable/yq.*.raw after/portable/yq.*.raw',
      'flatcar-ext diff kubernetes@1.36.4 kubernetes@1.37.0 --tree https://extensions.example.org --root root.json',
      'flatcar-ext diff kubernetes@1.36 kubernetes@1.37 --tree /srv/extensions --keys ~/keys --release stable --json',
    ],
  });
}
