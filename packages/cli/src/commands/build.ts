import { basename } from 'node:path';
import { hostArch, linkFolder, linkName, selectTargets, UserErrors, type Image, type Target } from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import { addHelp } from '../help.ts';
import {
  arches,
  archOption,
  type BuildFlags,
  jsonOption,
  mirrorOption,
  originOption,
  profileOption,
  releaseOption,
  sandboxOption,
  typedPath,
  wordsOf,
} from '../options.ts';
import { keysOption } from '../published.ts';
import { signKeys } from '@flatcar/workspace/given-keys';
import { imageTable } from '../output/image-table.ts';
import { reporter } from '../output/reporter.ts';
import { show } from '../output/terminal.ts';

interface Flags extends BuildFlags {
  readonly out?: string;
  readonly pins?: string;
  readonly payloadsOnly?: boolean;
  readonly only?: string;
  readonly sandbox: boolean;
  readonly key?: string;
  readonly certificate?: string;
  readonly keys?: string;
  readonly json?: boolean;
}

/** How to use an image on a node. */
function howToUse(image: Image, target: Target): string {
  const file = basename(image.file);
  return [
    `To use ${file}: copy it to the node as /opt/extensions/${image.extension}/${file}, then`,
    `  ln -s /opt/extensions/${image.extension}/${file} ${linkFolder(image.kind)}/${linkName(image.extension, target)}`,
    `  systemctl restart systemd-${image.kind}`,
  ].join('\n');
}

/** The images as a table, and how to use the last one. */
function text(made: readonly Image[], targets: readonly Target[]): string {
  // People try the image for their own machine first.
  const last = made.findLast(({ arch }) => arch === hostArch()) ?? made.at(-1);
  const target = last === undefined ? undefined : targets.find((one) => (one === 'portable' ? one : one.number) === last.target);
  return [imageTable(made), ...(last === undefined || target === undefined ? [] : ['', howToUse(last, target)])].join('\n');
}

/** `build`: payloads and images of extensions. */
export function addBuild(root: Command, signal: AbortSignal): void {
  const command = root
    .command('build')
    .summary('build extensions, and bind them to targets')
    .description('build extensions, and bind them to targets')
    .argument('[extensions...]', 'names, with a version if not the newest: kubernetes@1.36 (default: the extension of this folder)')
    .addOption(releaseOption().default('portable,stable'))
    .addOption(archOption().default(undefined, "this machine's"))
    .addOption(profileOption())
    .addOption(originOption())
    .addOption(mirrorOption())
    .addOption(sandboxOption())
    .addOption(
      new Option('--out <dir>', 'write images to <dir>/<extension>/<target>/')
        .argParser(typedPath)
        .default(undefined, "the extension's dist/, which is replaced"),
    )
    .addOption(new Option('--key <file>', 'PEM key that signs the roothash of disk images').argParser(typedPath))
    .addOption(new Option('--certificate <file>', 'PEM certificate of --key').argParser(typedPath))
    .addOption(keysOption())
    .option('--only <list>', 'include these components only, comma-separated, to try something; such an image cannot be published')
    .option('--payloads-only', 'make the payloads that the targets need, and no images: bind makes those')
    .addOption(
      new Option('--pins <file>', 'read pins from another pins.json, those of shared components too; for tests').argParser(typedPath),
    )
    .addOption(jsonOption())
    .action(async (names: string[], flags: Flags) => {
      const [{ build, payloadFolders, prepareBuild }, { noticeNoCommit }] = await Promise.all([
        import('@flatcar/workspace/build'),
        import('@flatcar/workspace/build-context'),
      ]);
      const targets = selectTargets(flags.release ?? '');
      // The whole command line is read before anything is built: a mistake in it changes nothing.
      const prepared = await prepareBuild({
        names,
        targets,
        arches: arches(flags.arch),
        profile: flags.profile,
        origin: flags.origin,
        out: flags.out,
        pins: flags.pins,
        only: flags.only === undefined ? undefined : wordsOf(flags.only, '--only'),
        payloadsOnly: flags.payloadsOnly,
        noSandbox: !flags.sandbox,
        mirror: flags.mirror,
        sign: await signKeys(flags),
      });
      const { report, done } = await reporter();
      await noticeNoCommit(prepared.context, report);
      const { images, failures } = await build(prepared, report, signal).finally(done);
      show(images, flags.json, (made) =>
        flags.payloadsOnly === true ? `payloads and their records: ${payloadFolders(prepared).join(', ')}` : text(made, targets),
      );
      if (failures.length > 0) throw new UserErrors(`${failures.length} of ${prepared.chosen.length} extensions failed`, failures);
    });
  addHelp(command, {
    text: ['Images need no network once what they consist of is in the store. A build that fails leaves the images of the one before.'],
    examples: [
      'flatcar-ext build kubernetes',
      'flatcar-ext build kubernetes@1.36 --release stable,beta --arch x86-64,arm64',
      'flatcar-ext build kubernetes --origin upstream --profile publish --out images',
      '# an image of two components, to try them',
      'flatcar-ext build wasm-shims --only wasmtime,containerd-shim-wasmtime-v1',
    ],
  });
}
