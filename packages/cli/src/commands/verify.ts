import type { Report } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption, sandboxOption } from '../options.ts';
import { addTreeOptions, readTreeOption, type TreeFlags } from '../published.ts';
import { reporter } from '../output/reporter.ts';
import { tell } from '../output/output.ts';
import { show, table } from '../output/terminal.ts';

interface Flags extends Partial<TreeFlags> {
  readonly rebuild?: boolean;
  readonly sandbox: boolean;
}

/** A check that an image passed. */
interface Passed {
  readonly image: string;
  readonly check: string;
}

async function verifyAll(words: readonly string[], flags: Flags, report: Report, signal: AbortSignal): Promise<Passed[]> {
  const { localPath } = await import('@flatcar/publish');
  const { verifyImage } = await import('@flatcar/workspace/verify-image');
  const { rebuildFile } = await import('@flatcar/workspace/rebuild');
  const { openPublished } = await import('@flatcar/workspace/open-published');
  const { verifyPublished } = await import('@flatcar/workspace/published/verify');
  const { tree } = flags;
  const opened = tree === undefined ? undefined : await openPublished({ ...flags, tree }, { report, signal });
  const passed: Passed[] = [];
  for (const word of words) {
    const image = localPath(word, 'verify');
    const checks = await verifyImage(image);
    if (opened !== undefined) checks.push(await verifyPublished(image, opened));
    if (flags.rebuild === true) checks.push(await rebuildFile(image, { report, noSandbox: !flags.sandbox, signal }));
    passed.push(...checks.map((check) => ({ image, check })));
  }
  return passed;
}

/** `verify`: images against their sums, manifests and verity; with --rebuild also against a build from nothing. */
export function addVerify(root: Command, signal: AbortSignal): void {
  const command = addTreeOptions(root.command('verify'), readTreeOption())
    .summary('check images against their sums, manifests and roothashes')
    .description('check images against their sums and manifests, and disk images against their roothash')
    .argument('<images...>', '.raw files with their sidecars')
    .option('--rebuild', 'build each image again with an empty result store, from the origins in its manifest, and compare the bytes')
    .addOption(sandboxOption())
    .addOption(jsonOption())
    .action(async (words: string[], flags: Flags) => {
      const { report, done } = await reporter();
      const passed = await verifyAll(words, flags, report, signal).finally(done);
      show(passed, flags.json, (all) => table([['image', 'checked'], ...all.map(({ image, check }) => [image, check])]));
      if (flags.tree === undefined && flags.json !== true)
        tell(
          'note: sums and manifests lie beside the images and are not signed; to check who published the images, pass --tree and --root',
        );
    });
  addHelp(command, {
    text: ['With --tree, each image must also be one that the tree publishes, by the digest in its verified index.'],
    examples: [
      'flatcar-ext verify docker.portable_29.8.1_x86-64.raw --tree https://extensions.example.org --root root.json',
      'flatcar-ext verify extensions/kubernetes/dist/*/*.raw',
      'flatcar-ext verify --rebuild extensions/kubernetes/dist/portable/*.raw',
    ],
  });
}
