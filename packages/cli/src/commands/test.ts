import { constants } from 'node:fs';
import { access, mkdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ownedName, reap, removeAbandoned, selectTargets, targetName, UserError, UsageError, withoutSecrets } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { execa } from 'execa';
import * as v from 'valibot';
import { printJson } from '../output/output.ts';
import { chooseExtensions, REPOSITORY } from '@flatcar/workspace/select';
import { arches, archOption, releaseOption } from '../options.ts';

interface Flags {
  readonly release?: string;
  readonly arch?: string;
  readonly os: string;
  readonly all?: boolean;
  readonly json?: boolean;
}

/** Which machines the tests boot; all extensions and the tests of systemd's own behaviour when none is named. */
interface Wanted {
  readonly extensions: readonly string[] | undefined;
  readonly releases: readonly string[];
  readonly arches: readonly string[];
  /** `stand-in`, `flatcar` or the absolute path of an image. */
  readonly os: string;
}

/** Of vitest's JSON, which tests ran. */
const Results = v.object({
  testResults: v.array(v.object({ name: v.string(), assertionResults: v.array(v.object({ title: v.string(), status: v.string() })) })),
});

/** Those of some extensions of which every test was skipped; without names, `machines` when nothing ran at all. */
function untested(extensions: readonly string[] | undefined, { testResults }: v.InferOutput<typeof Results>): string[] {
  const ran = testResults.flatMap(({ name, assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === 'passed' || status === 'failed')
      // A test of the shared machine is named for its extension; an extension's own tests are in its folder.
      .map(({ title }) => /\/extensions\/([^/]+)\/[^/]+$/.exec(name)?.[1] ?? title),
  );
  if (extensions === undefined) return ran.length === 0 ? ['machines'] : [];
  return extensions.filter((name) => !ran.includes(name));
}

/** How long vitest may take to end its machines after a signal, in milliseconds: they die with it in any case. */
const GRACE = 700;

/** Runs the machine project of vitest, whose output is this command's. */
async function runMachines(wanted: Wanted, json: boolean, signal: AbortSignal): Promise<void> {
  await removeAbandoned(tmpdir(), /^fx-/);
  const temp = join(tmpdir(), `fx-${ownedName()}`); // short: sockets of machines may be below it
  await mkdir(temp, { mode: 0o700 });
  try {
    const file = join(temp, 'results.json');
    const child = execa(
      join(REPOSITORY, 'scripts/run'),
      [
        'vitest',
        'run',
        '--configLoader=native',
        '--project',
        'machine',
        ...(json ? [] : ['--reporter=verbose']),
        '--reporter=json',
        `--outputFile.json=${file}`,
      ],
      {
        cwd: REPOSITORY,
        extendEnv: false,
        env: { ...withoutSecrets(), FLATCAR_EXT_MACHINES: JSON.stringify(wanted), TMPDIR: temp },
        stdio: ['inherit', json ? process.stderr : 'inherit', 'inherit'],
        reject: false,
        cancelSignal: signal,
        killSignal: 'SIGINT',
        forceKillAfterDelay: GRACE,
      },
    );
    const ended = child.pid === undefined ? undefined : reap(child.pid);
    const { exitCode } = await child;
    ended?.();
    signal.throwIfAborted();
    const text = await readFile(file, 'utf8').catch(() => '');
    if (json && text !== '') printJson(JSON.parse(text));
    if (exitCode !== 0 || text === '')
      throw new UserError('machine tests failed', { next: "each failure above ends with where the machine's whole logs are" });
    const absent = untested(wanted.extensions, v.parse(Results, JSON.parse(text)));
    if (absent.length > 0)
      throw new UserError(`no test ran of ${absent.join(', ')}`, { next: 'the reason that each was skipped for is above' });
  } finally {
    await rm(temp, { recursive: true, force: true });
  }
}

/** What is booted: `stand-in`, `flatcar`, or the absolute path of an image that is there. */
async function osOf(word: string): Promise<string> {
  if (['stand-in', 'flatcar'].includes(word)) return word;
  const path = resolve(word);
  await access(path, constants.R_OK).catch((cause: unknown) => {
    throw new UsageError(`there is no image '${word}' to boot`, {
      where: path,
      next: 'use stand-in, flatcar, or the path of a Flatcar image for QEMU',
      cause,
    });
  });
  return path;
}

/** `test`: boots machines with extensions merged and sees the software work. */
export function addTest(root: Command, signal: AbortSignal): void {
  const command = root
    .command('test')
    .summary('boot virtual machines with extensions merged')
    .description('boot virtual machines with extensions merged, and check their units and programs')
    .argument('[extensions...]', 'names (default: the extension of this folder)')
    .addOption(releaseOption().default(undefined, 'stable; with --all stable and beta'))
    .addOption(archOption().default(undefined, "this machine's"))
    .option('--os <os>', 'what to boot: stand-in, flatcar (fetched and verified), or the path of a Flatcar image for QEMU', 'stand-in')
    .option('--all', 'test all extensions, and what systemd does with images')
    .option('--json', "print vitest's results as JSON")
    .action(async (names: string[], flags: Flags) => {
      if (flags.all === true && names.length > 0) throw new UsageError('--all takes no names', { next: 'leave out the names, or --all' });
      const versioned = names.find((name) => name.includes('@'));
      if (versioned !== undefined)
        throw new UsageError(`'${versioned}' names a version`, {
          next: 'leave out the version: machines run the newest, or the one in test/extension.test.ts',
        });
      const releases = selectTargets(flags.release ?? (flags.all === true ? 'stable,beta' : 'stable'))
        .filter((target) => target !== 'portable')
        .map(targetName);
      if (releases.length === 0)
        throw new UsageError('machines boot a Flatcar release, not portable', {
          where: '--release',
          next: 'pass a channel or a release number',
        });
      const extensions = flags.all === true ? undefined : (await chooseExtensions(names)).map(({ loaded }) => loaded.extension.name);
      const os = await osOf(flags.os);
      await runMachines({ extensions, releases, arches: arches(flags.arch), os }, flags.json === true, signal);
    });
  addHelp(command, {
    text: [
      'Extensions that can be merged together share a machine, one for each release and architecture; confexts boot apart from sysexts. Machines run by QEMU, with KVM if this machine has it. The tests are those in the folder test/ of each extension: extension.test.ts and machine tests.',
      'The stand-in is Debian 13 for releases up to 4593, where systemd merges in the final system, and Debian unstable from 4628 on, where the initrd merges. Making one needs root and some minutes; the store keeps both. --os flatcar fetches the image for QEMU of each release, verified by its signing key; an image of your own (--os PATH) must be of the release that is tested.',
      'An extension is skipped, with the reason, if its upstream cannot be reached and it cannot be compiled; with CI set that is a failure. A test that only works on a stand-in is skipped on others. Logs of a failed machine are kept in the cache folder.',
    ],
    examples: [
      'flatcar-ext test kubernetes',
      'flatcar-ext test kubernetes containerd --release stable,beta',
      'flatcar-ext test hardening --release beta --arch arm64',
      'flatcar-ext test kubernetes --os flatcar --release stable,lts',
      'flatcar-ext test --all',
    ],
  });
}
