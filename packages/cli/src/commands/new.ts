import { spawnSync } from 'node:child_process';
import { access, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import {
  ARCHES,
  defineExtension,
  exec,
  findExtensions,
  hostArch,
  loadDefinition,
  loadExtension,
  locatorOf,
  parseArch,
  UserError,
  type Arch,
  type Extension,
  type Report,
} from '@flatcar/core';
import type { NewRequest, Plan, Probe, UpstreamContext } from '@flatcar/upstream';
import type { Command } from 'commander';
import { openAsk } from '../ask.ts';
import { mirrorOption, pair, REPOSITORY } from '../options.ts';
import { writeReadme, writeRootReadme } from '../readme.ts';
import { reporter, show } from '../terminal.ts';
import { upstreamContext } from '../upstream.ts';

interface Flags {
  readonly github?: string;
  readonly listing?: string;
  readonly url?: string;
  readonly asset?: string;
  readonly checksum?: string;
  readonly archWords?: string;
  readonly tagPrefix?: string;
  readonly go?: string;
  readonly package?: string[];
  readonly stamp: Readonly<Record<string, string>>;
  readonly tags?: string;
  readonly cargo?: string;
  readonly features?: string;
  readonly debian?: string[];
  readonly suite: string;
  readonly program?: string[];
  readonly version?: string;
  readonly license?: string;
  readonly summary?: string;
  readonly keep: string;
  readonly unit?: string;
  readonly condition?: string;
  readonly sha256: Readonly<Record<string, string>>;
  readonly proof?: string;
  readonly build: boolean;
  readonly yes?: boolean;
  readonly mirror?: string;
  readonly json?: boolean;
}

/** What was made. */
interface Made {
  readonly extension: string;
  readonly version: string;
  readonly files: readonly string[];
  /** Lines of extension.ts. */
  readonly lines: number;
  readonly seconds: number;
  /** True when it was built (and so linted) for this machine's architecture. */
  readonly built: boolean;
}

const words = (text: string | undefined): string[] | undefined => text?.split(',').map((one) => one.trim());

async function requestOf(name: string, flags: Flags): Promise<NewRequest> {
  const { listing, archWords, tags, features, unit, condition } = flags;
  const [x86, arm] = words(archWords) ?? [];
  if (archWords !== undefined && (x86 === undefined || arm === undefined))
    throw new UserError(`'${archWords}' are not two words`, {
      next: 'such as --arch-words x64,arm64; leave one empty where a name has none: ,-arm64',
    });
  if (condition !== undefined && unit === undefined) throw new UserError('--condition is about the unit', { next: 'say --unit as well' });
  const simple = ['github', 'url', 'asset', 'checksum', 'tagPrefix', 'go', 'cargo', 'debian', 'version', 'summary', 'mirror'] as const;
  // As `pin` takes it, with the component's name, does too.
  const license = flags.license?.replace(/^[\w.-]+=/, '');
  return {
    name,
    ...Object.fromEntries(simple.flatMap((key) => (flags[key] === undefined ? [] : [[key, flags[key]]]))),
    ...(listing === undefined ? {} : { listing: { text: await readFile(listing, 'utf8').catch((cause: unknown) => { throw new UserError('the listing cannot be read', { where: listing, cause }); }), where: listing } }), // prettier-ignore
    ...(x86 === undefined || arm === undefined ? {} : { arch: { 'x86-64': x86, arm64: arm } }),
    ...(flags.package === undefined ? {} : { packages: flags.package }),
    ...(Object.keys(flags.stamp).length === 0 ? {} : { stamps: flags.stamp }),
    ...(tags === undefined ? {} : { tags: words(tags) ?? [] }),
    ...(features === undefined ? {} : { features: words(features) ?? [] }),
    ...(flags.program === undefined ? {} : { programs: flags.program }),
    ...(unit === undefined ? {} : { unit: { exec: unit, ...(condition === undefined ? {} : { condition }) } }),
    ...(license === undefined ? {} : { license }),
    suite: flags.suite,
    keep: flags.keep,
    known: Object.keys(flags.sha256).length > 0,
  };
}

async function assertFree(name: string): Promise<void> {
  defineExtension({ name, summary: '-', versions: { kind: 'date', at: '', keep: 'newest' }, components: () => [] });
  const taken = (await findExtensions(REPOSITORY)).find((dir) => dir.endsWith(`/${name}`));
  if (taken !== undefined)
    throw new UserError(`there is an extension '${name}' already`, { where: taken, next: `flatcar-ext bump ${name} brings it up to date` });
  await access(join(REPOSITORY, 'extensions', name)).then(
    () => {
      throw new UserError('the folder is there, but holds no extension', {
        where: join(REPOSITORY, 'extensions', name),
        next: 'remove it first',
      });
    },
    () => undefined,
  );
}

/** Digests that are known from elsewhere, as pins that `pin` compares with what upstream has, where it can be reached. */
async function writeKnown(dir: string, extension: Extension, version: string, flags: Flags): Promise<void> {
  if (Object.keys(flags.sha256).length === 0) return;
  if (flags.proof === undefined)
    throw new UserError('--sha256 needs --proof', { next: 'say where the digests are from, such as --proof "third-party pin: kubespray"' });
  const given = Object.fromEntries(Object.entries(flags.sha256).map(([arch, sha256]) => [parseArch(arch), sha256])) as Partial<
    Record<Arch, string>
  >;
  const bytes: Record<string, { sha256: string; proof: string }> = {};
  for (const component of extension.components({ version })) {
    for (const origin of component.origins.filter(({ kind }) => kind === 'release')) {
      for (const arch of ARCHES) {
        const sha256 = given[arch];
        if (sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256))
          throw new UserError(`--sha256 ${arch}= needs 64 lowercase hex digits`, { next: 'both architectures are shipped' });
        bytes[locatorOf(origin, component, arch) ?? ''] = { sha256, proof: flags.proof };
      }
    }
  }
  await writeFile(join(dir, 'pins.json'), JSON.stringify({ [version]: { revision: 0, licenses: {}, bytes } }, undefined, 2));
}

/** Commands that a program is tried with, until one says its version. */
const ASKING = [['--version'], ['version'], ['-version'], ['-V'], ['-v']];
/** And if none does: until one prints its help, and calls that no error. */
const HELPING = [['--help'], ['help'], ['-h']];

/**
 * A line of a program's help that only the program prints: without its name, which a loader's errors have too and which depends on how it
 * was started, and without digits, which may be of a version.
 */
function helpLine(help: string, program: string): string | undefined {
  return help
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line.length <= 80 && /[a-z]{2,}\W+[a-z]{2,}/i.test(line) && !/[\d/]/.test(line) && !line.includes(program));
}

/** How programs say their version, or print help, tried on the built image in a namespace of its own: no network, no other files. */
async function probe(dir: string, plan: Plan, context: UpstreamContext, report: Report): Promise<Probe[]> {
  const { buildExtension, catalogue, unpackImage } = await import('@flatcar/core');
  const arch = hostArch();
  return context.store.withTemp(async (temp) => {
    const { images } = await buildExtension(await loadExtension(dir), {
      version: plan.version,
      arch,
      targets: ['portable', catalogue()[0] ?? 'portable'].slice(0, 1) as ['portable'],
      profile: 'fast',
      origin: 'auto',
      out: join(temp, 'out'),
      store: context.store,
      tools: context.tools,
      report,
      ...(context.mirror === undefined ? {} : { mirror: context.mirror }),
      ...(context.signal === undefined ? {} : { signal: context.signal }),
    });
    const root = join(temp, 'root');
    const [image] = images;
    if (image === undefined) throw new Error('the build made no image');
    await unpackImage(context.tools, image.file, 'squashfs', arch, root);
    return plan.programs.flatMap((program): Probe[] => {
      const run = (args: readonly string[]): { status: number | null; said: string } => {
        const { status, stdout, stderr } = spawnSync(
          'unshare',
          ['--map-root-user', '--mount', '--net', '--pid', '--fork', '--kill-child', 'chroot', root, `/usr/bin/${program}`, ...args],
          {
            encoding: 'utf8',
            timeout: 10_000,
            killSignal: 'SIGKILL',
            env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', HOME: '/', LC_ALL: 'C' },
          },
        );
        return { status, said: `${stdout}${stderr}` };
      };
      const version = new RegExp(`(?<![\\d.])${plan.version.replaceAll('.', String.raw`\.`)}(?!\\d|\\.\\d)`);
      const asking = ASKING.find((args) => version.test(run(args).said));
      if (asking !== undefined) return [{ run: [program, ...asking], says: 'version' }];
      for (const args of HELPING) {
        const { status, said } = run(args);
        const says = status === 0 ? helpLine(said, program) : undefined;
        if (says !== undefined) return [{ run: [program, ...args], says }];
      }
      return [];
    });
  });
}

async function writePackage(dir: string, plan: Plan, probes: readonly Probe[]): Promise<void> {
  const { scaffold } = await import('@flatcar/upstream');
  for (const { path, text } of scaffold(plan, probes)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text);
  }
  const formatter = join(REPOSITORY, 'node_modules/.bin/oxfmt');
  // Ignored folders are not formatted, so the text goes through a pipe.
  for (const name of ['extension.ts', 'extension.test.ts'])
    await writeFile(join(dir, name), `${(await exec(formatter, ['--stdin-filepath', join(REPOSITORY, 'extensions', plan.name, name)], { cwd: REPOSITORY, input: await readFile(join(dir, name)), env: { PATH: process.env['PATH'] ?? '' } })).trimEnd()}\n`); // prettier-ignore
}

/** Writes, pins and tries the package in a folder aside; it comes to extensions/ as a whole or not at all. */
async function make(
  plan: Plan,
  flags: Flags,
  askLicense: ((component: string) => Promise<string>) | undefined,
  context: UpstreamContext,
  report: Report,
): Promise<Omit<Made, 'seconds'>> {
  const { addChangelogEntry, pinVersion } = await import('@flatcar/upstream');
  const aside = join(REPOSITORY, 'dist', 'new', `${plan.name}-${process.pid}`);
  const dir = join(REPOSITORY, 'extensions', plan.name);
  try {
    await writePackage(
      aside,
      plan,
      plan.programs.map((program) => ({ run: [program, '--version'], says: 'version' })),
    );
    const extension = await loadDefinition(aside);
    await writeKnown(aside, extension, plan.version, flags);
    const licenses =
      plan.license === ''
        ? {}
        : Object.fromEntries(extension.components({ version: plan.version }).map(({ name }) => [name, plan.license]));
    const asked = askLicense === undefined ? {} : { askLicense };
    const pinned = await pinVersion({ dir: aside, extension, version: plan.version, licenses, ...asked }, context);
    if (flags.build) {
      const probes = await probe(aside, plan, context, report);
      await writePackage(aside, plan, probes);
      for (const program of plan.programs) {
        const found = probes.find(({ run }) => run[0] === program);
        if (found?.says === 'version') continue;
        report({
          type: 'notice',
          text: `${program} does not say ${plan.version} when it is asked for its version: ${
            found === undefined
              ? `the test only looks whether it is there; write a command into extension.test.ts, such as { run: ['${program}', 'ARGUMENT'], says: /WORDS/ }`
              : `the test looks for a line of '${found.run.join(' ')}'`
          }`,
        });
      }
    }
    await writeFile(
      join(aside, 'CHANGELOG.md'),
      addChangelogEntry(plan.name, undefined, { version: plan.version, revision: pinned.revision, lines: ['first version'] }),
    );
    await writeReadme(aside);
    await rename(aside, dir);
    await writeRootReadme(REPOSITORY);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
  report({ type: 'step', text: 'entering it in package-lock.json' });
  await exec('npm', ['install', '--package-lock-only', '--no-audit', '--no-fund'], {
    cwd: REPOSITORY,
    env: {
      PATH: process.env['PATH'] ?? '',
      ...(process.env['npm_config_registry'] === undefined ? {} : { npm_config_registry: process.env['npm_config_registry'] }),
    },
    next: `run it by hand: npm install --package-lock-only`,
  });
  const listed = (await import('node:fs/promises')).readdir(dir, { recursive: true, withFileTypes: true });
  const files = (await listed).filter((entry) => entry.isFile()).map((entry) => relative(REPOSITORY, join(entry.parentPath, entry.name)));
  const definition = await readFile(join(dir, 'extension.ts'), 'utf8');
  return {
    extension: plan.name,
    version: plan.version,
    files: files.toSorted(),
    lines: definition.trimEnd().split('\n').length,
    built: flags.build,
  };
}

const text = ({ extension, version, files, lines, seconds, built }: Made): string =>
  [
    `${extension} ${version}: ${lines} lines of definition, ${seconds} s`,
    ...files.map((file) => `  ${file}`),
    '',
    built
      ? 'It was built and linted for this machine’s architecture.'
      : 'It was not built: whether its programs know --version, as extension.test.ts says, was not tried.',
    '',
    'Next:',
    `  flatcar-ext build ${extension} --arch x86-64,arm64`,
    `  npx vitest run --project merge extensions/${extension}      merges it (needs root)`,
    `  git add extensions/${extension} package-lock.json README.md && git commit -m 'Add ${extension}'`,
  ].join('\n');

const collect = (one: string, before: string[] | undefined): string[] => [...(before ?? []), one];

/** `new`: a new extension, from what upstream offers. */
export function addNew(root: Command, signal: AbortSignal): void {
  root
    .command('new')
    .description('add an extension: look at upstream, write the package, pin it, build and try it')
    .argument('<name>', 'name of the extension')
    .option('--github <owner/repo>', "releases of a GitHub project: versions, and files unless --url says others'")
    .option(
      '--listing <file>',
      "with --github: a saved answer of GitHub's API (…/releases or …/releases/latest), where it cannot be reached",
    )
    .option('--asset <pattern>', 'with --github: the file, such as tool_{version}_linux_{arch}.tar.gz ({machine} is x86_64, aarch64)')
    .option('--url <url>', 'the file, wherever it is; {version}, {arch}, {machine}, or the URL of one version with --version')
    .option('--checksum <what>', '{url}.sha256, the name of a list beside the file, github, or none')
    .option('--arch-words <x86,arm>', 'words for {arch} that are not amd64 and arm64')
    .option('--tag-prefix <text>', 'what stands before the version in tags, v unless said')
    .option('--go <module>', 'a Go module: compiled from the module proxy, alone or where upstream files cannot be reached')
    .option('--package <folder>', 'with --go: main package below the module, . for its root; once per program', collect)
    .option('--stamp <variable=value>', "with --go: what -X writes, {version} filled in; upstream's own build files unless said", pair, {})
    .option('--tags <list>', 'with --go: build tags')
    .option('--cargo <crate>', 'a crate: compiled from the crates registry')
    .option('--features <list>', 'with --cargo: features')
    .option('--debian <package...>', 'packages of Debian, with all libraries that they need')
    .option('--suite <name>', 'with --debian: the suite', 'trixie')
    .option('--program <name>', 'a program that comes to /usr/bin; may be given several times', collect)
    .option('--version <version>', 'the version to pin; the newest unless said')
    .option('--keep <policy>', "versions to keep: newest, '3 minors', '2 branches'", 'newest')
    .option('--summary <text>', 'one line')
    .option('--license <spdx>', 'SPDX expression')
    .option('--unit <command>', "write a service that runs this and starts with the image; with --debian also the name of a package's own")
    .option('--condition <path>', 'with --unit: start it only where this file exists')
    .option('--sha256 <arch=hash>', 'digest of the file that is known from elsewhere; per architecture, with --proof', pair, {})
    .option('--proof <text>', 'with --sha256: where the digests are from')
    .option('--no-build', 'do not build it and do not try its programs')
    .option('-y, --yes', 'ask nothing')
    .addOption(mirrorOption())
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
On a terminal it asks for what it cannot find out. It writes extensions/NAME/ as a whole or not at all, its entry in package-lock.json, and its line in README.md.

Examples:
  flatcar-ext new k9s --github derailed/k9s
  flatcar-ext new k9s --github derailed/k9s --go github.com/derailed/k9s      also from source
  flatcar-ext new helm --github helm/helm --url https://get.helm.sh/helm-v{version}-linux-{arch}.tar.gz --checksum {url}.sha256
  flatcar-ext new zellij --cargo zellij
  flatcar-ext new node-exporter --go github.com/prometheus/node_exporter --program node_exporter --unit node_exporter
  flatcar-ext new btop --debian btop --summary 'a monitor of resources'`,
    )
    .action(async (name: string, flags: Flags) => {
      const started = Date.now();
      await assertFree(name);
      const { planNew } = await import('@flatcar/upstream');
      const { ask, isAttended } = await openAsk(flags.yes, signal);
      const { report, done } = await reporter();
      const context = await upstreamContext(report, signal, flags.mirror);
      const hasOrigin = [flags.github, flags.url, flags.go, flags.cargo, flags.debian].some((one) => one !== undefined);
      let given = flags;
      if (!hasOrigin && isAttended) {
        const kind = await ask.choose('Where does it come from?', [
          { value: 'github', label: 'files of GitHub releases' },
          { value: 'url', label: 'files at another URL' },
          { value: 'go', label: 'a Go module' },
          { value: 'cargo', label: 'a Rust crate' },
          { value: 'debian', label: 'packages of Debian' },
        ] as const);
        const answer = await ask.text(
          {
            github: 'Which project (owner/repo)?',
            url: 'Which URL?',
            go: 'Which module?',
            cargo: 'Which crate?',
            debian: 'Which packages?',
          }[kind],
          `--${kind}`,
        );
        given = { ...flags, [kind]: kind === 'debian' ? answer.split(/[\s,]+/) : answer };
      }
      const plan = await planNew(await requestOf(name, given), ask, context);
      const askLicense = async (component: string): Promise<string> => {
        done(); // no moving line beside a question
        return ask.text(`The licence of ${component}, as SPDX?`, '--license');
      };
      const made = await make(plan, given, isAttended ? askLicense : undefined, context, report);
      done();
      show({ ...made, seconds: Math.round((Date.now() - started) / 1000) }, flags.json, text);
    });
}
