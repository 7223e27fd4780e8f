import { parseRef } from '@flatcar/core/engine';
import { formatBytes } from '@flatcar/core/engine';
import { treeTargets } from '@flatcar/workspace/tree-targets';
import { Option, type Command } from 'commander';
import { addHelp } from '../help.ts';
import { archOption, arches, jsonOption, releaseOption, typedPath } from '../options.ts';
import { tell } from '../output/output.ts';
import { reporter } from '../output/reporter.ts';
import { show, table } from '../output/terminal.ts';
import { addTreeOptions, type TreeFlags } from '../published.ts';

interface Flags extends TreeFlags {
  readonly out: string;
  readonly release: string;
  readonly arch?: string;
}

/** `fetch`: verified images of a published tree in a folder. */
export function addFetch(root: Command, signal: AbortSignal): void {
  const command = addTreeOptions(
    root
      .command('fetch')
      .summary('download verified images from a published tree')
      .description('download images of a published tree, with their sidecars, and verify them')
      .argument('<extensions...>', 'kubernetes, kubernetes@1.36 (newest of that branch) or kubernetes@1.36.4'),
  )
    .addOption(new Option('--out <dir>', 'folder for the images').argParser(typedPath).makeOptionMandatory())
    .addOption(releaseOption().default('portable'))
    .addOption(archOption())
    .addOption(jsonOption())
    .action(async (words: string[], flags: Flags) => {
      const { openPublished } = await import('@flatcar/workspace/open-published');
      const { fetchImages } = await import('@flatcar/workspace/published/fetch');
      const request = { wanted: words.map(parseRef), targets: treeTargets(flags.release), arches: arches(flags.arch), out: flags.out };
      const { report, done } = await reporter();
      const opened = await openPublished(flags, { report, signal });
      const { images, notices } = await fetchImages(opened, request).finally(done);
      for (const notice of notices) tell(`note: ${notice}`);
      show(images, flags.json, (all) =>
        table([
          ['extension', 'version', 'target', 'arch', 'size', 'file'],
          ...all.map((one) => [one.extension, one.version, one.target, one.architecture, formatBytes(one.size), one.file]),
        ]),
      );
    });
  addHelp(command, {
    text: [
      'For machine images that contain extensions. Extensions that others require are added. Each image is checked against the verified index before it appears under its name; an interrupted download continues, and a second run downloads only what is new. The folder also gets manifests, SBOMs, provenance, and SHA256SUMS for flatcar-ext verify.',
    ],
    examples: [
      'flatcar-ext fetch kubernetes@1.36 containerd --tree https://extensions.example.org --root root.json --out images',
      'flatcar-ext fetch docker --tree /srv/extensions --keys ~/keys --release stable --arch arm64 --out images --json',
    ],
  });
}
