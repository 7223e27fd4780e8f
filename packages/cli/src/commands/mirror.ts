import { targetName, UsageError } from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import { archOption, arches, releaseOption, jsonOption } from '../options.ts';
import { firstUseOption, keysOption, rootOption } from '../published.ts';
import { treeTrust } from '@flatcar/workspace/given-keys';
import { treeTargets } from '@flatcar/workspace/tree-targets';
import { addHelp } from '../help.ts';
import { formatBytes } from '@flatcar/core/engine';
import { reporter } from '../output/reporter.ts';
import { show } from '../output/terminal.ts';

interface Flags {
  readonly tree: string;
  readonly to: string;
  readonly keys?: string;
  readonly root?: string;
  readonly trustFirstUse?: boolean;
  readonly baseUrl?: string;
  readonly release?: string;
  readonly arch?: string;
  readonly allowOlder?: boolean;
  readonly page: boolean;
  readonly json?: boolean;
}

/** `mirror`: a copy of a published tree for places without a network. */
export function addMirror(root: Command, signal: AbortSignal): void {
  const command = root
    .command('mirror')
    .summary('copy a published tree, or parts of it')
    .description('copy extensions, releases and architectures of a published tree, and verify them')
    .argument('[extensions...]', 'names (default: all)')
    .requiredOption('--tree <where>', 'the published tree to copy: a folder, https://… or s3://bucket/prefix')
    .requiredOption('--to <where>', 'the copy: a folder, s3://bucket/prefix, or oci://registry/repository')
    .addOption(releaseOption().default(undefined, 'all'))
    .addOption(archOption().default(undefined, 'all'))
    .addOption(
      new Option('--base-url <url>', 'URL under which the copy is served, for its transfer files; required except for a registry').env(
        'FLATCAR_EXT_BASE_URL',
      ),
    )
    .option('--allow-older', 'replace the index of the copy by an older one, after the tree was rolled back on purpose')
    .addOption(rootOption())
    .addOption(firstUseOption())
    .addOption(keysOption())
    .option('--no-page', 'do not write the catalogue page, index.html')
    .addOption(jsonOption())
    .action(async (names: string[], flags: Flags) => {
      const { openStore } = await import('@flatcar/core/engine');
      const { mirror, openDestination, openTree, parsePlace, pushOci } = await import('@flatcar/publish');
      const { buildPage } = await import('@flatcar/site/page');
      const { to } = flags;
      const isRegistry = parsePlace(to, '--to').kind === 'oci';
      if (!flags.baseUrl && !isRegistry)
        throw new UsageError('the URL of the copy is missing', {
          where: '--base-url',
          next: 'pass --base-url URL: the transfer files contain it',
        });
      const parts = {
        extensions: names.length === 0 ? undefined : [...new Set(names)],
        targets: flags.release === undefined ? undefined : treeTargets(flags.release).map(targetName),
        arches: flags.arch === undefined ? undefined : arches(flags.arch),
      };
      const store = openStore();
      const destination = isRegistry ? undefined : openDestination(to, { flag: '--to', store, signal });
      const { report, done } = await reporter();
      const chosen = {
        tree: openTree(flags.tree, store, { flag: '--tree', report, signal }),
        trust: await treeTrust(flags),
        ...parts,
        report,
        signal,
      };
      const copied =
        destination === undefined
          ? pushOci({ ...chosen, to: to.slice('oci://'.length) })
          : mirror({
              ...chosen,
              destination,
              baseUrl: flags.baseUrl ?? '',
              allowOlder: flags.allowOlder === true,
              page: flags.page ? await buildPage(store) : undefined,
            });
      const result = await copied.finally(done);
      show(
        result,
        flags.json,
        ({ images, bytes, serial, where }) => `${images.length} images (${formatBytes(bytes)}) of index ${serial} are in ${where}`,
      );
    });
  addHelp(command, {
    text: [
      "Sums, index and signatures stay those of the publisher, so that nodes keep the publisher's keyring; only the transfer files are written for the URL of the copy. A second run fetches what is new.",
      'In a registry each image is an artifact <repository>/<extension>:<version>-<target>-<architecture>, with its SBOM and its provenance as referrers.',
    ],
    environment: { OCI_USERNAME: 'with OCI_PASSWORD: credentials of the registry' },
    examples: [
      'flatcar-ext mirror kubernetes containerd --tree https://extensions.example.org --root root.json --to /srv/mirror --base-url http://mirror.lan --release portable,stable --arch x86-64',
      'flatcar-ext mirror --tree /srv/extensions --keys ~/keys --to oci://registry.example.org/flatcar/extensions',
    ],
  });
}
