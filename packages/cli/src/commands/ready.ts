import { ARCHES, parseRef, UserError } from '@flatcar/core/engine';
import type { Readiness } from '@flatcar/workspace/published/ready';
import { treeTargets } from '@flatcar/workspace/tree-targets';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { archOption, arches, jsonOption, releaseOption } from '../options.ts';
import { show, table } from '../output/terminal.ts';
import { addTreeOptions, type TreeFlags } from '../published.ts';

interface Flags extends TreeFlags {
  readonly release: string;
  readonly arch?: string;
}

const WORDS: Readonly<Record<Readiness['state'], string>> = {
  ready: 'ready',
  older: 'older than for other releases',
  missing: 'missing',
};

/** What a person reads: a row for each extension, release and architecture. */
export function readyText(all: readonly Readiness[]): string {
  return table([
    ['extension', 'release', 'arch', 'version', 'newest', 'state'],
    ...all.map((one) => [one.extension, one.target, one.architecture, one.version ?? '', one.newest ?? '', WORDS[one.state]]),
  ]);
}

/** `ready`: whether nodes find their images after an update of Flatcar. */
export function addReady(root: Command, signal: AbortSignal): void {
  const command = addTreeOptions(
    root
      .command('ready')
      .summary('check that a published tree has all images for a Flatcar release')
      .description('check that nodes find an image of each extension after their update to a Flatcar release')
      .argument('[extensions...]', 'names, or branches such as kubernetes@1.36 (default: all of the tree)'),
  )
    .addOption(releaseOption().makeOptionMandatory())
    .addOption(archOption().default(undefined, ARCHES.join(',')))
    .addOption(jsonOption())
    .action(async (words: string[], flags: Flags) => {
      const { openPublished } = await import('@flatcar/workspace/open-published');
      const { readyFor } = await import('@flatcar/workspace/published/ready');
      const request = {
        wanted: words.map(parseRef),
        targets: treeTargets(flags.release),
        arches: flags.arch === undefined ? ARCHES : arches(flags.arch),
      };
      const all = await readyFor(await openPublished(flags, { signal }), request);
      show(all, flags.json, readyText);
      const unready = all.filter(({ state }) => state !== 'ready');
      if (unready.length > 0)
        throw new UserError(`${unready.length} of ${all.length} images are not ready for Flatcar ${flags.release}`, {
          where: flags.tree,
          next: 'wait until they are published, or hold the update of Flatcar on these nodes',
        });
    });
  addHelp(command, {
    text: [
      'An image that is older than the newest version for other releases is not ready: nodes would go back to that version. An extension that is published as portable only is ready. Exits with 1 unless all are ready.',
    ],
    examples: [
      'flatcar-ext ready kubernetes@1.36 docker --release stable --arch x86-64 --tree https://extensions.example.org --root root.json',
      'flatcar-ext ready --release 4757.1.0 --tree /srv/extensions --keys ~/keys --json',
    ],
  });
}
