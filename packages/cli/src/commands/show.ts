import { ARCHES, targetName } from '@flatcar/core/engine';
import type { ExtensionIndex, PublishedVersion } from '@flatcar/publish';
import { formatBytes } from '@flatcar/core/engine';
import type { ShownTree } from '@flatcar/workspace/published/show';
import { treeTargets } from '@flatcar/workspace/tree-targets';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { archOption, arches, jsonOption, releaseOption } from '../options.ts';
import { show, table } from '../output/terminal.ts';
import { addTreeOptions, type TreeFlags } from '../published.ts';

interface Flags extends TreeFlags {
  readonly release?: string;
  readonly arch?: string;
}

const unique = (words: readonly string[]): string[] => [...new Set(words)];
const targetsOf = (versions: readonly PublishedVersion[]): string[] =>
  unique(versions.flatMap(({ images }) => images.map(({ target }) => target)));

/** One row for each extension. */
function overview({ extensions }: ShownTree): string {
  const rows = extensions.map(({ name, summary, versions }) => {
    const available = versions.filter(({ withdrawn }) => withdrawn === undefined);
    const withdrawn = versions.length - available.length;
    return [
      name,
      available[0]?.version ?? '',
      `${available.length}${withdrawn === 0 ? '' : ` (${withdrawn} withdrawn)`}`,
      targetsOf(available).join(', '),
      summary,
    ];
  });
  return table([['extension', 'newest', 'versions', 'targets', 'summary'], ...rows]);
}

/** Versions × targets × architectures, with the size of each image. */
function imageRows({ versions }: ExtensionIndex): string[][] {
  return versions.flatMap(({ version, images, withdrawn }) =>
    unique(images.map(({ target }) => target)).map((target) => {
      const of = images.filter((image) => image.target === target);
      const sizes = ARCHES.map((arch) => of.find(({ architecture }) => architecture === arch)?.size);
      return [
        version,
        target,
        of[0]?.format ?? '',
        ...sizes.map((size) => (size === undefined ? '' : formatBytes(size))),
        withdrawn === undefined ? '' : 'withdrawn',
      ];
    }),
  );
}

function componentRows({ versions }: ExtensionIndex): string[][] {
  return versions.flatMap(({ version, components }) => components.map((one) => [version, one.name, one.version, one.origin, one.license]));
}

/** Everything about one extension. */
function details(extension: ExtensionIndex): string {
  const { name, kind, summary, versions } = extension;
  const withdrawn = versions.flatMap((one) =>
    one.withdrawn === undefined ? [] : [`withdrawn: ${one.version}: ${one.withdrawn.reason}; use ${one.withdrawn.by}`],
  );
  const others = (word: string, list: (version: PublishedVersion) => readonly string[]): string[] => {
    const named = unique(versions.flatMap(list));
    return named.length === 0 ? [] : [`${word}: ${named.join(', ')}`];
  };
  return [
    `${name} (${kind}): ${summary}`,
    ...others('requires', ({ requires }) => requires),
    ...others('conflicts with', ({ conflicts }) => conflicts),
    ...withdrawn,
    '',
    table([['version', 'target', 'format', ...ARCHES, ''], ...imageRows(extension)]),
    '',
    table([['version', 'component', 'version', 'origin', 'license'], ...componentRows(extension)]),
  ].join('\n');
}

/** What a person reads of a tree: a row for each extension, or all about the named ones. */
export function shownTreeText(tree: ShownTree, isNamed: boolean): string {
  const end = `index ${tree.serial} of ${tree.where}`;
  return [...(isNamed ? tree.extensions.map(details) : [overview(tree)]), end].join('\n\n');
}

/** `show`: what a published tree contains. */
export function addShow(root: Command, signal: AbortSignal): void {
  const command = addTreeOptions(
    root
      .command('show')
      .summary('list what a published tree contains')
      .description('list the extensions of a published tree, or the versions, images and components of some')
      .argument('[extensions...]', 'names (default: an overview of all)'),
  )
    .addOption(releaseOption().default(undefined, 'all'))
    .addOption(archOption().default(undefined, 'all'))
    .addOption(jsonOption())
    .action(async (names: string[], flags: Flags) => {
      const { openPublished } = await import('@flatcar/workspace/open-published');
      const { showPublished } = await import('@flatcar/workspace/published/show');
      const tree = await showPublished(await openPublished(flags, { signal }), {
        names,
        targets: flags.release === undefined ? undefined : treeTargets(flags.release).map(targetName),
        arches: flags.arch === undefined ? undefined : arches(flags.arch),
      });
      show(tree, flags.json, (value) => shownTreeText(value, names.length > 0));
    });
  addHelp(command, {
    text: [
      'The index is verified from the root of trust in --root or --keys down. A version that was withdrawn is listed with the reason and its replacement.',
    ],
    examples: [
      'flatcar-ext show --tree https://extensions.example.org --root root.json',
      'flatcar-ext show kubernetes --tree /srv/extensions --keys ~/keys --release stable --arch x86-64',
      'flatcar-ext show kubernetes --tree /srv/extensions --keys ~/keys --json',
    ],
  });
}
