import { constants } from 'node:fs';
import { access, mkdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ownedName, parseJson, reap, removeAbandoned, UsageError, UserError, withoutSecrets } from '@flatcar/core/engine';
import { execa } from 'execa';
import * as v from 'valibot';
import { REPOSITORY } from './select.ts';

/** Which machines the tests boot. */
export interface MachineTests {
  /** Undefined for all extensions, and the tests of what systemd does with images. */
  readonly extensions: readonly string[] | undefined;
  readonly releases: readonly string[];
  readonly arches: readonly string[];
  /** `stand-in`, `flatcar` or the absolute path of an image. */
  readonly os: string;
}

/** The part of vitest's JSON that lists the tests. */
const Results = v.object({
  testResults: v.array(v.object({ name: v.string(), assertionResults: v.array(v.object({ title: v.string(), status: v.string() })) })),
});

/** The extensions of which every test was skipped; of all extensions, `machines` if no test ran. */
function untested(extensions: readonly string[] | undefined, { testResults }: v.InferOutput<typeof Results>): string[] {
  const ran = testResults.flatMap(({ name, assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === 'passed' || status === 'failed')
      // A test of the shared machine has the name of its extension; other tests are in the folder of theirs.
      .map(({ title }) => /\/extensions\/([^/]+)\/test\/[^/]+$/.exec(name)?.[1] ?? title),
  );
  if (extensions === undefined) return ran.length === 0 ? ['machines'] : [];
  return extensions.filter((name) => !ran.includes(name));
}

/** Milliseconds that vitest has to end its machines after a signal; they die with it in any case. */
const GRACE = 700;

/** The arguments of vitest that run the machine project, and write its results to a file. */
function vitestArgs(file: string, json: boolean): string[] {
  const reporters = [...(json ? [] : ['--reporter=verbose']), '--reporter=json', `--outputFile.json=${file}`];
  return ['vitest', 'run', '--configLoader=native', '--project', 'machine', ...reporters];
}

/** Runs vitest on the machine project; returns its exit code. With `json`, what it prints goes to standard error. */
async function runVitest(tests: MachineTests, file: string, temp: string, json: boolean, signal: AbortSignal): Promise<number | undefined> {
  const child = execa(join(REPOSITORY, 'scripts/run'), vitestArgs(file, json), {
    cwd: REPOSITORY,
    extendEnv: false,
    env: { ...withoutSecrets(), FLATCAR_EXT_MACHINES: JSON.stringify(tests), TMPDIR: temp },
    stdio: ['inherit', json ? process.stderr : 'inherit', 'inherit'],
    reject: false,
    cancelSignal: signal,
    killSignal: 'SIGINT',
    forceKillAfterDelay: GRACE,
  });
  const ended = child.pid === undefined ? undefined : reap(child.pid);
  const { exitCode } = await child;
  ended?.();
  signal.throwIfAborted();
  return exitCode;
}

/**
 * Runs machine tests, which print their progress. With `json`, calls `printResults` with vitest's results, and standard output gets nothing
 * else. Throws a UserError if a test fails, or if all tests of an extension are skipped.
 */
export async function runMachineTests(
  tests: MachineTests,
  printResults: ((results: unknown) => void) | undefined,
  signal: AbortSignal,
): Promise<void> {
  await removeAbandoned(tmpdir(), /^fx-/);
  const temp = join(tmpdir(), `fx-${ownedName()}`); // short: paths of sockets below it have a limit
  await mkdir(temp, { mode: 0o700 });
  try {
    const file = join(temp, 'results.json');
    const exitCode = await runVitest(tests, file, temp, printResults !== undefined, signal);
    const text = await readFile(file, 'utf8').catch(() => '');
    if (text !== '') printResults?.(JSON.parse(text));
    if (exitCode !== 0 || text === '')
      throw new UserError('machine tests failed', { next: "each failure above ends with the place of the machine's logs" });
    const absent = untested(tests.extensions, parseJson(Results, text, { what: 'test results', where: file }));
    if (absent.length > 0) throw new UserError(`all tests were skipped: ${absent.join(', ')}`, { next: 'see the reasons above' });
  } finally {
    await rm(temp, { recursive: true, force: true });
  }
}

/** Parses what to boot: `stand-in`, `flatcar`, or the path of an image, which is returned as an absolute path. Throws a UsageError if there is none. */
export async function parseOs(word: string): Promise<string> {
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
