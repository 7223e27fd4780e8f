import { catalogue } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addSigningOptions, type SigningFlags, assetsOption, treeOption } from '../published.ts';
import { loadAll } from '@flatcar/workspace/select';
import { publishKeys } from '@flatcar/workspace/given-keys';
import { addHelp } from '../help.ts';
import { jsonOption } from '../options.ts';
import { reporter } from '../output/reporter.ts';
import { show } from '../output/terminal.ts';

interface Flags extends SigningFlags {
  readonly tree: string;
  readonly assets?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** `retire`: removes from a published tree what is out of support. */
export function addRetire(root: Command, signal: AbortSignal): void {
  const command = addSigningOptions(root.command('retire'))
    .summary('remove images that are out of support from a published tree')
    .description('remove images of unsupported releases and old versions from a published tree')
    .addOption(treeOption())
    .addOption(assetsOption())
    .option('--dry-run', 'list what would be removed and why, and change nothing')
    .addOption(jsonOption())
    .action(async (flags: Flags) => {
      const { expiredFiles, openDestination, publish, publisherTrust, readPublished } = await import('@flatcar/publish');
      const destination = openDestination(flags.tree, { assets: flags.assets, signal });
      const keys = await publishKeys(flags);
      const { plannedExtensions } = await import('@flatcar/workspace/plan-release');
      const retire = { releases: catalogue(), extensions: plannedExtensions(await loadAll([])) };
      if (flags.dryRun === true) {
        const leaving = await expiredFiles(await readPublished(destination, await publisherTrust(destination, keys.metadata)), retire);
        return show(leaving, flags.json, (all) =>
          [...all.map(({ path, why }) => `${path}: ${why}`), `${all.length} files would be removed`].join('\n'),
        );
      }
      const { report, done } = await reporter();
      const result = await publish({ paths: [], destination, keys, retire, unsigned: flags.unsigned === true, report, signal }).finally(
        done,
      );
      show(result, flags.json, ({ retired, serial, where }) =>
        [
          ...retired.map((path) => `removed ${path}`),
          `${retired.length} files removed from index and sums; index ${serial} at ${where}`,
        ].join('\n'),
      );
    });
  addHelp(command, {
    text: [
      'A release is unsupported if the catalogue lacks it and has newer ones of its channel (for LTS, of its major). A version is old if it ranks below every branch that the policy of the extension keeps (versions.keep). The newest old version stays, so that withdraw can go back to it; so does the newest version for a supported release. Update payloads are removed with their release.',
      'The index and the sums omit removed images at once; their files are deleted by the next publish that changes something, so that a node which has just read the sums can still fetch them. Version names stay in the index and are never given to other bytes. Nodes keep what they have. Assets in releases on GitHub stay there.',
    ],
    examples: ['flatcar-ext retire --tree /srv/extensions --keys ~/keys --dry-run', 'flatcar-ext retire --tree s3://extensions/stable'],
  });
}
