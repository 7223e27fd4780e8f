import { catalogue } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addSigningOptions, loadNamed, plannedExtensions, publishKeys, type SigningFlags } from '../published.ts';
import { reporter, show } from '../output/terminal.ts';

interface Flags extends SigningFlags {
  readonly tree: string;
  readonly assets?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** `retire`: takes out of a published tree what is too old. */
export function addRetire(root: Command, signal: AbortSignal): void {
  addSigningOptions(root.command('retire'))
    .description('take out of a published tree what is too old: images of releases out of support, and old versions')
    .requiredOption('--tree <where>', 'the published tree: a folder, or s3://bucket/prefix')
    .option('--assets <where>', 'as of publish: where its images are')
    .option('--dry-run', 'say what would leave, and why')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
A release is out of support when the catalogue has newer ones of its channel (of LTS: of its major) and not it. A version is old when it ranks
below every branch that the extension's policy keeps (versions.keep); the newest of those stays, for withdraw to go back to, and so does whatever
is the newest for a supported release. Update payloads leave with their release.

Index and sums forget them at once; the files leave with the next publish that changes something, so that nobody who has just read the sums finds
nothing. Version names stay in the index, and are never given to other bytes. Nodes keep what they have. Assets of GitHub's releases stay there.

Examples:
  flatcar-ext retire --tree /srv/extensions --keys ~/keys --dry-run
  flatcar-ext retire --tree s3://extensions/stable`,
    )
    .action(async (flags: Flags) => {
      const { expiredImages, expiredPackages, openDestination, publish, readPublished } = await import('@flatcar/publish');
      const destination = openDestination(flags.tree, { assets: flags.assets, signal });
      const keys = await publishKeys(flags);
      const retire = { releases: catalogue(), extensions: plannedExtensions(await loadNamed([])) };
      if (flags.dryRun === true) {
        const published = await readPublished(destination, keys.trusted);
        const leaving = expiredPackages(await published.packages(), retire).map(({ path, release }) => ({ path, why: `Flatcar ${release} is out of support` })); // prettier-ignore
        for (const { name } of published.index?.extensions ?? []) {
          const index = await published.extension(name);
          if (index !== undefined) leaving.push(...expiredImages(index, retire));
        }
        return show(leaving, flags.json, (all) =>
          [...all.map(({ path, why }) => `${path}: ${why}`), `${all.length} would leave`].join('\n'),
        );
      }
      const { report, done } = await reporter();
      const result = await publish({ paths: [], destination, keys, retire, unsigned: flags.unsigned === true, report, signal }).finally(
        done,
      );
      show(result, flags.json, ({ retired, serial, where }) =>
        [...retired.map((path) => `left ${path}`), `${retired.length} files left index and sums; index ${serial} at ${where}`].join('\n'),
      );
    });
}
