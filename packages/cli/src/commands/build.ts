import { join, relative, resolve } from 'node:path';
import {
  hostArch,
  asUserError,
  linkFolder,
  linkName,
  selectTargets,
  UserError,
  UserErrors,
  type Arch,
  type BuildContext,
  type Image,
  type Report,
  type SignKeys,
  type Target,
} from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import { assertCommit, buildContext, noticeNoCommit } from '@flatcar/workspace/build-context';
import { checkOutput, replaceDist } from '@flatcar/workspace/dist';
import { chooseExtensions, REPOSITORY, type Chosen } from '@flatcar/workspace/select';
import {
  arches,
  archOption,
  mirrorOption,
  originOption,
  profileOption,
  releaseOption,
  sandboxOption,
  typedPath,
  wordsOf,
  type BuildFlags,
} from '../options.ts';
import { assertPackaged } from '@flatcar/workspace/packaging-check';
import { keysOption, signKeys } from '../published.ts';
import { readable, reporter, show, table } from '../output/terminal.ts';

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

/** What to do with an image on a node. */
function howToUse(image: Image, target: Target): string {
  const file = image.file.split('/').at(-1);
  return [
    `To use ${file}: copy it to the node as /opt/extensions/${image.extension}/${file}, then`,
    `  ln -s /opt/extensions/${image.extension}/${file} ${linkFolder(image.kind)}/${linkName(image.extension, target)}`,
    `  systemctl restart systemd-${image.kind}`,
  ].join('\n');
}

interface Job {
  readonly chosen: readonly Chosen[];
  readonly targets: readonly Target[];
  readonly arches: readonly Arch[];
  readonly sign: SignKeys | undefined;
  readonly record: BuildContext;
}

/** Reads the whole command line before anything is made: a mistake in it changes nothing. */
async function prepare(names: readonly string[], flags: Flags): Promise<Job> {
  const targets = selectTargets(flags.release ?? '');
  const wanted = arches(flags.arch);
  const chosen = await chooseExtensions(names, flags.pins);
  for (const { loaded } of chosen) await checkOutput(flags.out === undefined ? loaded.dir : resolve(flags.out, loaded.extension.name));
  if (flags.profile === 'release') await assertPackaged(chosen);
  const sign = await signKeys(flags);
  const record = await buildContext();
  await assertCommit(record, flags.profile);
  return { chosen, targets, arches: wanted, sign, record };
}

/** Builds one extension for all architectures and targets; gives its images. */
async function buildOne({ loaded, version }: Chosen, job: Job, flags: Flags, report: Report, signal: AbortSignal): Promise<Image[]> {
  const { buildExtension, openStore, openTools } = await import('@flatcar/core/engine');
  const store = openStore();
  const tools = openTools(store, report);
  const fill = async (out: string): Promise<Image[]> => {
    const images: Image[] = [];
    for (const arch of job.arches) {
      const made = await buildExtension(loaded, {
        version,
        arch,
        targets: job.targets,
        profile: flags.profile,
        origin: flags.origin,
        out,
        store,
        tools,
        report,
        signal,
        payloadsOnly: flags.payloadsOnly === true,
        only: flags.only === undefined ? undefined : wordsOf(flags.only, '--only'),
        noSandbox: !flags.sandbox,
        mirror: flags.mirror,
        sign: job.sign,
        built: job.record,
      });
      images.push(...made.images);
    }
    return images;
  };
  if (flags.out !== undefined) return fill(resolve(flags.out, loaded.extension.name));
  const dist = join(loaded.dir, 'dist');
  return replaceDist(loaded.dir, async (out) =>
    (await fill(out)).map((image) => ({ ...image, file: join(dist, relative(out, image.file)) })),
  );
}

async function buildAll(job: Job, flags: Flags, report: Report, signal: AbortSignal): Promise<{ images: Image[]; failures: UserError[] }> {
  const images: Image[] = [];
  const failures: UserError[] = [];
  for (const one of job.chosen) {
    try {
      images.push(...(await buildOne(one, job, flags, report, signal)));
    } catch (error) {
      // One extension's failure does not hold back the others.
      const known = asUserError(error);
      if (signal.aborted || known === undefined || job.chosen.length === 1) throw error;
      failures.push(known);
    }
  }
  return { images, failures };
}

/** The images as a table, and how to use the last one. */
function text(made: readonly Image[], targets: readonly Target[]): string {
  const rows = made.map((image) => [
    image.extension,
    image.version,
    image.target,
    image.arch,
    image.format,
    readable(image.size),
    image.file.startsWith(`${REPOSITORY}/`) ? relative(REPOSITORY, image.file) : image.file,
  ]);
  // What people try first is the image for the machine that they sit at.
  const last = made.findLast(({ arch }) => arch === hostArch()) ?? made.at(-1);
  const target = last === undefined ? undefined : targets.find((one) => (one === 'portable' ? one : one.number) === last.target);
  return [
    table([['extension', 'version', 'target', 'arch', 'format', 'size', 'file'], ...rows]),
    ...(last === undefined || target === undefined ? [] : ['', howToUse(last, target)]),
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
    .addOption(sandboxOption())
    .addOption(
      new Option(
        '--out <dir>',
        "where images go: <dir>/<extension>/<target>/ (default: the extension's dist/, which is replaced as a whole)",
      ).argParser(typedPath),
    )
    .addOption(new Option('--key <file>', 'PEM key that signs the roothash of disk images').argParser(typedPath))
    .addOption(new Option('--certificate <file>', 'PEM certificate of --key').argParser(typedPath))
    .addOption(keysOption())
    .option('--only <list>', 'components, comma-separated: an image without the others, to try things; never publishable')
    .option('--payloads-only', 'make the payloads that the targets take, and no images: bind makes those')
    .addOption(new Option('--pins <file>', 'another pins.json, with the pins of shared components too; for tests').argParser(typedPath))
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
      const job = await prepare(names, flags);
      const { report, done } = await reporter();
      await noticeNoCommit(job.record, report);
      const { images, failures } = await buildAll(job, flags, report, signal).finally(done);
      const payloads = job.chosen.map(({ loaded: { dir, extension } }) =>
        join(flags.out === undefined ? join(dir, 'dist') : resolve(flags.out, extension.name), 'payload'),
      );
      show(images, flags.json, (made) =>
        flags.payloadsOnly === true ? `payloads and their records: ${payloads.join(', ')}` : text(made, job.targets),
      );
      if (failures.length > 0) throw new UserErrors(`${failures.length} of ${job.chosen.length} extensions failed`, failures);
    });
}
