import { catalogue, selectTargets, targetName, UsageError } from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import { archOption, arches, releaseOption, wordsOf } from '../options.ts';
import { keyringOption, keysOption, trustedKeys } from '../published.ts';
import { formatBytes, reporter, show } from '../output/terminal.ts';

interface Flags {
  readonly tree: string;
  readonly keys?: string;
  readonly keyring?: string;
  readonly baseUrl?: string;
  readonly extension?: string;
  readonly release?: string;
  readonly arch?: string;
  readonly allowOlder?: boolean;
  readonly json?: boolean;
}

/** Targets by their names: releases that the catalogue does not know may be published all the same. */
function targetNames(text: string): string[] {
  return wordsOf(text, '--release').flatMap((word) =>
    /^\d+\.\d+\.\d+$/.test(word) && !catalogue().some(({ number }) => number === word) ? [word] : selectTargets(word).map(targetName),
  );
}

/** `mirror`: a copy of a published tree for places without a network. */
export function addMirror(root: Command, signal: AbortSignal): void {
  root
    .command('mirror')
    .description('copy chosen extensions, releases and architectures of a published tree, checked on the way')
    .argument('<to>', 'folder or s3://bucket/prefix that becomes the mirror, or oci://registry/repository')
    .requiredOption('--tree <where>', 'the published tree to copy: a folder, https://… or s3://bucket/prefix')
    .option('--extension <list>', 'names, comma-separated; all by default')
    .addOption(releaseOption())
    .addOption(archOption())
    .addOption(
      new Option('--base-url <url>', 'URL under which the mirror is served, for its transfer files; required unless it is a registry').env(
        'FLATCAR_EXT_BASE_URL',
      ),
    )
    .option('--allow-older', 'replace the index of the mirror by an older one: the tree went back on purpose')
    .addOption(keyringOption())
    .addOption(keysOption())
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Sums, index and their signatures are the publisher's own, so nodes keep the publisher's keyring; only the transfer files are written anew, for
the URL of the mirror. Running it again fetches what is new.

In a registry each image is an artifact <repository>/<extension>:<version>-<target>-<architecture> with its SBOM and its provenance as
referrers; OCI_USERNAME and OCI_PASSWORD are its credentials.

Examples:
  flatcar-ext mirror /srv/mirror --tree https://extensions.example.org --keyring publisher.gpg --base-url http://mirror.lan \\
    --extension kubernetes,containerd --release portable,stable --arch x86-64
  flatcar-ext mirror oci://registry.example.org/flatcar/extensions --tree /srv/extensions --keys ~/keys`,
    )
    .action(async (to: string, flags: Flags) => {
      const { openStore } = await import('@flatcar/core/engine');
      const { mirror, openDestination, openTree, parsePlace, pushOci } = await import('@flatcar/publish');
      const isRegistry = parsePlace(to, 'mirror <to>').kind === 'oci';
      if (!flags.baseUrl && !isRegistry)
        throw new UsageError('the URL of the mirror is not known', {
          where: '--base-url',
          next: 'pass --base-url URL: it stands in the transfer files',
        });
      const parts = {
        extensions: flags.extension === undefined ? undefined : wordsOf(flags.extension, '--extension'),
        targets: flags.release === undefined ? undefined : targetNames(flags.release),
        arches: flags.arch === undefined ? undefined : arches(flags.arch),
      };
      const store = openStore();
      const destination = isRegistry ? undefined : openDestination(to, { flag: 'mirror <to>', store, signal });
      const { report, done } = await reporter();
      const chosen = {
        tree: openTree(flags.tree, store, { flag: '--tree', report, signal }),
        keys: await trustedKeys(flags),
        ...parts,
        report,
        signal,
      };
      const copied =
        destination === undefined
          ? pushOci({ ...chosen, to: to.slice('oci://'.length) })
          : mirror({ ...chosen, destination, baseUrl: flags.baseUrl ?? '', allowOlder: flags.allowOlder === true });
      const result = await copied.finally(done);
      show(
        result,
        flags.json,
        ({ images, bytes, serial, where }) => `${images.length} images (${formatBytes(bytes)}) of index ${serial} are in ${where}`,
      );
    });
}
