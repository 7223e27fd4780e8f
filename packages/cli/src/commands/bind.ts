import { ARCHES, selectTargets, type Image, type Report, type SignKeys } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { treeTrust, withSignKeys } from '@flatcar/workspace/given-keys';
import { archOption, arches, releaseOption, jsonOption } from '../options.ts';
import { firstUseOption, keysOption, rootOption } from '../published.ts';
import { addHelp } from '../help.ts';
import { imageTable } from '../output/image-table.ts';
import { reporter } from '../output/reporter.ts';
import { show } from '../output/terminal.ts';

interface Flags {
  readonly tree?: string;
  readonly root?: string;
  readonly trustFirstUse?: boolean;
  readonly keys?: string;
  readonly arch?: string;
  readonly release: string;
  readonly out: string;
  readonly key?: string;
  readonly certificate?: string;
  readonly json?: boolean;
}

async function bindAll(
  words: readonly string[],
  flags: Flags,
  sign: SignKeys | undefined,
  report: Report,
  signal: AbortSignal,
): Promise<Image[]> {
  const { bindPayloads } = await import('@flatcar/workspace/bind-payloads');
  const source =
    flags.tree === undefined
      ? { paths: words }
      : {
          tree: flags.tree,
          names: words,
          arches: flags.arch === undefined ? ARCHES : arches(flags.arch),
          trust: await treeTrust(flags),
        };
  return bindPayloads(source, { targets: selectTargets(flags.release), out: flags.out, sign }, report, signal);
}

/** `bind`: images of payloads that are there, without any extension's code. */
export function addBind(root: Command, signal: AbortSignal): void {
  const command = root
    .command('bind')
    .description('bind payloads to Flatcar releases; nothing is built')
    .argument(
      '<payloads...>',
      'payload records (*.payload.json) or folders with records; with --tree extensions, such as kubernetes@1.37.0',
    )
    .addOption(releaseOption().makeOptionMandatory())
    .requiredOption('--out <dir>', 'write images to <dir>/<extension>/<target>/')
    .option('--tree <where>', 'take the payloads from this published tree: a folder, https://… or s3://bucket/prefix')
    .addOption(archOption().default(undefined, 'all'))
    .addOption(rootOption())
    .addOption(firstUseOption())
    .option('--key <file>', 'PEM key that signs the roothash of disk images')
    .option('--certificate <file>', 'PEM certificate of --key')
    .addOption(keysOption())
    .addOption(jsonOption())
    .action(async (paths: string[], flags: Flags) => {
      const { report, done } = await reporter();
      const images = await withSignKeys(flags, (sign) => bindAll(paths, flags, sign, report, signal)).finally(done);
      show(images, flags.json, imageTable);
    });
  addHelp(command, {
    examples: [
      'flatcar-ext bind extensions/kubernetes/dist --release stable,lts --out images',
      'flatcar-ext bind kubernetes containerd --tree https://extensions.example.org --root root.json --release stable --out images',
    ],
  });
}
