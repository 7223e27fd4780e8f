import { rm } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { linkFolder, linkName, selectTargets, UserError, UserErrors, type Image, type Target } from '@flatcar/core';
import type { Command } from 'commander';
import { buildContext } from '../build-context.ts';
import {
  arches,
  archOption,
  chooseExtensions,
  mirrorOption,
  originOption,
  profileOption,
  releaseOption,
  REPOSITORY,
  type BuildFlags,
} from '../options.ts';
import { keysOption, signKeys } from '../published.ts';
import { readable, reporter, show, table } from '../terminal.ts';

interface Flags extends BuildFlags {
  readonly out?: string;
  readonly pins?: string;
  readonly payloadsOnly?: boolean;
  readonly only?: string;
  readonly key?: string;
  readonly certificate?: string;
  readonly keys?: string;
  readonly json?: boolean;
}

/** What to do with an image on a node. */
function howToUse(image: Image, target: Target): string {
  const file = image.file.split('/').at(-1);
  return [
    `To use ${file}: copy it to the node as /opt/extensions/${image.extension}/${file}, then`,
    `  ln -s /opt/extensions/${image.extension}/${file} ${linkFolder(image.kind)}/${linkName(image.extension, target)}`,
    `  systemctl restart systemd-${image.kind}`,
  ].join('\n');
}

/** `build`: payloads and images of extensions. */
export function addBuild(root: Command, signal: AbortSignal): void {
  root
    .command('build')
    .description('build extensions and bind them to targets')
    .argument('[extensions...]', 'names, with a version if not the newest: kubernetes@1.36 (default: the extension of this folder)')
    .addOption(releaseOption().default('portable,stable'))
    .addOption(archOption())
    .addOption(profileOption())
    .addOption(originOption())
    .addOption(mirrorOption())
    .option('--out <dir>', "where images go: <dir>/<extension>/<target>/ (default: the extension's dist/, which is emptied first)")
    .option('--key <file>', 'PEM key that signs the roothash of disk images')
    .option('--certificate <file>', 'PEM certificate of --key')
    .addOption(keysOption())
    .option('--only <list>', 'components, comma-separated: an image without the others, to try things; never publishable')
    .option('--payloads-only', 'make the payloads that the targets take, and no images: bind makes those')
    .option('--pins <file>', 'another pins.json, with the pins of shared components too; for tests')
    .option('--json', 'print what was made as JSON')
    .addHelpText(
      'after',
      `
Examples:
  flatcar-ext build kubernetes
  flatcar-ext build kubernetes@1.36 --release stable,beta --arch x86-64,arm64
  flatcar-ext build kubernetes --origin release --profile release --out images
  flatcar-ext build wasm-shims --only wasmtime,containerd-shim-wasmtime-v1`,
    )
    .action(async (names: string[], flags: Flags) => {
      const sign = await signKeys(flags);
      const { buildExtension, openStore, openTools } = await import('@flatcar/core');
      const targets = selectTargets(flags.release ?? '');
      const chosen = await chooseExtensions(names, flags.pins);
      const { report, done } = await reporter();
      const store = openStore();
      const tools = openTools(store, report);
      const record = await buildContext();
      const images: Image[] = [];
      const failures: UserError[] = [];
      for (const { loaded, version } of chosen) {
        const out = flags.out === undefined ? join(loaded.dir, 'dist') : resolve(flags.out, loaded.extension.name);
        if (flags.out === undefined) await rm(out, { recursive: true, force: true });
        try {
          for (const arch of arches(flags.arch)) {
            const made = await buildExtension(loaded, {
              version,
              arch,
              targets,
              profile: flags.profile,
              origin: flags.origin,
              out,
              store,
              tools,
              report,
              signal,
              payloadsOnly: flags.payloadsOnly === true,
              ...(flags.only === undefined ? {} : { only: flags.only.split(',').map((name) => name.trim()) }),
              ...(flags.mirror === undefined ? {} : { mirror: flags.mirror }),
              ...(sign === undefined ? {} : { sign }),
              built: record,
            });
            images.push(...made.images);
          }
        } catch (error) {
          // One extension's failure does not hold back the others.
          if (signal.aborted || !(error instanceof UserError) || chosen.length === 1) throw error;
          failures.push(error);
        } finally {
          done();
        }
      }
      show(images, flags.json, (made) => {
        const rows = made.map((image) => [
          image.extension,
          image.version,
          image.target,
          image.arch,
          image.format,
          readable(image.size),
          image.file.startsWith(`${REPOSITORY}/`) ? relative(REPOSITORY, image.file) : image.file,
        ]);
        const last = made.at(-1);
        const target = last === undefined ? undefined : targets.find((one) => (one === 'portable' ? one : one.number) === last.target);
        return [
          table([['extension', 'version', 'target', 'arch', 'format', 'size', 'file'], ...rows]),
          ...(last === undefined || target === undefined ? [] : ['', howToUse(last, target)]),
        ].join('\n');
      });
      if (failures.length > 0) throw new UserErrors(`${failures.length} of ${chosen.length} extensions failed`, failures);
    });
}
