import { parseRef, UsageError } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addSigningOptions, type SigningFlags, assetsOption, treeOption } from '../published.ts';
import { publishKeys, withSignKeys } from '@flatcar/workspace/given-keys';
import { addHelp } from '../help.ts';
import { jsonOption } from '../options.ts';
import { reporter } from '../output/reporter.ts';
import { show } from '../output/terminal.ts';

interface Flags extends SigningFlags {
  readonly tree: string;
  readonly assets?: string;
  readonly content: string;
  readonly reason: string;
  readonly json?: boolean;
}

/** `withdraw`: a published version that must not be used any more. */
export function addWithdraw(root: Command, signal: AbortSignal): void {
  const command = addSigningOptions(root.command('withdraw'))
    .summary('replace a published version by the content of another')
    .description('withdraw a published version: publish the content of another one as its next revision')
    .argument('<extension@version>', 'the published version to withdraw: kubernetes@1.36.5')
    .requiredOption('--content <version>', 'published version whose content replaces it')
    .requiredOption('--reason <text>', 'why; the index records it')
    .addOption(treeOption())
    .addOption(assetsOption())
    .addOption(jsonOption())
    .action(async (what: string, flags: Flags) => {
      const { name, version } = parseRef(what);
      if (version === undefined) throw new UsageError(`'${what}' names no version`, { next: 'write it as kubernetes@1.36.5' });
      const { openStore } = await import('@flatcar/core/engine');
      const { openDestination, withdraw } = await import('@flatcar/publish');
      const store = openStore();
      const destination = openDestination(flags.tree, { assets: flags.assets, store, signal });
      const keys = await publishKeys(flags);
      const { report, done } = await reporter();
      const result = await withSignKeys(flags, (sign) =>
        withdraw({
          name,
          version,
          content: flags.content,
          reason: flags.reason,
          tree: destination.tree(store, report),
          destination,
          keys,
          sign,
          unsigned: flags.unsigned === true,
          store,
          report,
          signal,
        }),
      ).finally(done);
      show(result, flags.json, ({ added, serial, version: replacement }) =>
        [
          ...added.map((path) => `published ${path}`),
          `${name} ${version} is withdrawn, ${replacement} takes its place (index ${serial})`,
          `the next fix of it needs a revision above ${replacement}: flatcar-ext pin ${name} --revision`,
        ].join('\n'),
      );
    });
  addHelp(command, {
    text: [
      'Nodes keep what they have when a version merely disappears. Therefore 1.36.5 is followed by 1.36.5-1, which has the content of 1.36.4, for every target and architecture. 1.36.5 is removed from all sums, and the index says why. Nothing is built: images are bound from what is published.',
    ],
    examples: [
      "flatcar-ext withdraw kubernetes@1.36.5 --content 1.36.4 --reason 'kubelet leaks memory' --tree /srv/extensions --keys ~/keys",
      "flatcar-ext withdraw yq@4.54.3 --content 4.54.2 --reason 'wrong output' --tree s3://extensions/stable",
    ],
  });
}
