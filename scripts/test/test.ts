// npm test, npm run test:all and npm run test:affected: chooses what runs, and sums up.
import { spawn, type ChildProcess } from 'node:child_process';
import { openSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { withoutSecrets } from '@flatcar/core/engine';
import { affected, defaultBase, type Affected } from './affected.ts';
import { REPORT, type Report } from './reporter.ts';
import { LEDGER, readLedger, summarize } from './summary.ts';

const repository = resolve(import.meta.dirname, '../..');
const HELP = `run the tests

npm test [-- OPTIONS] [FILE...]        what every change must pass, also on a bare machine: all unit tests, the command blocks of the
                                       documentation, one small extension of each origin, kind and format, and one booted machine
npm run test:affected [-- OPTIONS]     the same, and every test of the packages and extensions that a change has an effect on
npm run test:all [-- OPTIONS]          everything, on both architectures; hours where nothing is in the store yet

  FILE...          run only files whose path contains one of these, with all their tests
  --project NAME   run only this project: unit, docs, merge, machine, workflows or ubuntu; may be repeated
  --base REV       test:affected: compare with this commit (default: origin/main, else main)
  --dry-run        list what would run
  -h, --help       print this help

Tests that merge images or boot machines need root and are skipped without it. With CI set, a missing prerequisite is a failure instead.
FLATCAR_EXT_CACHE is the folder of downloads and of everything built (default: ~/.cache/flatcar-ext).

Examples:
  npm test
  npm test -- packages/core/test/lint.test.ts
  npm run test:affected -- --base origin/main`;

/** Projects of `npm test`. */
const USUAL = ['unit', 'docs', 'merge', 'machine'];
const PROJECTS = [...USUAL, 'workflows', 'ubuntu'];

/** One run of vitest. */
interface Part {
  readonly title: string;
  readonly projects: readonly string[];
  /** Which tests of their files, as vitest's --tags-filter; all unless specified. */
  readonly tags?: string;
  readonly files?: readonly string[];
  /** Machines to boot, as vitest.config.ts reads them. */
  readonly machines?: object;
}

function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        all: { type: 'boolean', default: false },
        affected: { type: 'boolean', default: false },
        base: { type: 'string' },
        project: { type: 'string', multiple: true },
        'dry-run': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    const unknown = values.project?.find((name) => !PROJECTS.includes(name));
    if (unknown !== undefined) throw new Error(`--project ${unknown}: not one of ${PROJECTS.join(', ')}`);
    return { ...values, files: positionals };
  } catch (error) {
    console.error(`error: ${(error as Error).message}\nnext: see npm test -- --help`);
    process.exit(2);
  }
}
type Arguments = ReturnType<typeof readArguments>;

/** The tests that `npm test` leaves out, of the folders that a change affects. */
function partsOf({ extensions, packages, projects }: Affected): Part[] {
  const files = [...extensions, ...packages].map((folder) => `${folder}/`);
  const full: Part = { title: `everything else of ${files.join(' ')}`, projects: ['merge'], tags: 'full', files };
  return [...(files.length > 0 ? [full] : []), ...(projects.length > 0 ? [{ title: projects.join(' and '), projects }] : [])];
}

async function partsFor({ all, affected: byChange, base, project, files }: Arguments): Promise<Part[]> {
  if (files.length > 0) return [{ title: files.join(' '), projects: project ?? PROJECTS, files }];
  const machines = { releases: ['stable', 'beta'], arches: ['x86-64', 'arm64'] };
  if (all) return [{ title: 'everything', projects: project ?? PROJECTS, machines }];
  const usual: Part = { title: 'what every change must pass', projects: project ?? USUAL, tags: '!full' };
  return byChange ? [usual, ...partsOf(await affected(base ?? (await defaultBase())))] : [usual];
}

const children = new Set<ChildProcess>();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => children.forEach((child) => child.kill(signal)));

/** Runs a program to its end, with its output here or in a file; gives its exit code. */
function run(command: string, args: readonly string[], env: Readonly<Record<string, string>>, log?: string): Promise<number> {
  const output = log === undefined ? 'inherit' : openSync(log, 'w');
  const child = spawn(command, args, { cwd: repository, env: { ...withoutSecrets(), ...env }, stdio: ['ignore', output, output] });
  children.add(child);
  const { promise, resolve: ended } = Promise.withResolvers<number>();
  child.on('error', () => ended(1)).on('close', (code) => ended(code ?? 1));
  return promise.finally(() => children.delete(child));
}

/** Runs one part; gives what its reporter wrote, or a failure where vitest did not come that far. */
async function runPart({ title, projects, tags, files = [], machines }: Part, index: number, temp: string): Promise<Report> {
  console.error(`\n== ${title}`);
  const report = join(temp, `report-${index}.json`);
  const env: Record<string, string> = { [REPORT]: report };
  if (machines !== undefined) env['FLATCAR_EXT_MACHINES'] = JSON.stringify(machines);
  const options = [
    ...projects.flatMap((project) => ['--project', project]),
    ...(tags === undefined ? [] : ['--tags-filter', tags]),
    '--configLoader=native', // the default one writes beside the configuration
    '--passWithNoTests', // a project may have no file yet, and a folder no test of a project
    '--reporter=default',
    `--reporter=${join(import.meta.dirname, 'reporter.ts')}`,
  ];
  const code = await run('vitest', ['run', ...options, ...files], env);
  const text = await readFile(report, 'utf8').catch(() => '');
  const read: Report =
    text === '' ? { passed: 0, failed: [], skipped: [], leftOut: {}, slowest: [], projects: {} } : (JSON.parse(text) as Report);
  if (code === 0 || read.failed.length > 0) return read;
  return { ...read, failed: [{ project: projects.join(' '), name: `vitest ended with ${code}`, seconds: 0 }] };
}

/** Builds in the background what merge tests and machines need, which requires root; resolves at its end. */
async function prepare(what: readonly string[], temp: string): Promise<void> {
  const log = join(temp, 'prepare.log');
  const code = await run('nice', ['node', 'scripts/test/prepare.ts', ...what], { [LEDGER]: join(temp, 'ledger') }, log);
  // The tests that need it try again, and fail by themselves.
  if (code !== 0 && code !== 143) console.error(`cannot build the Debian root of the tests:\n${await readFile(log, 'utf8')}`);
}

async function main(): Promise<number> {
  const chosen = readArguments();
  if (chosen.help) {
    console.log(HELP);
    return 0;
  }
  const parts = await partsFor(chosen);
  if (chosen['dry-run']) {
    for (const { title, projects, tags } of parts)
      console.log(
        `${title}: ${projects.join(', ')}${tags === undefined ? '' : `, ${tags.startsWith('!') ? 'without tests' : 'tests'} of the tag full`}`,
      );
    return 0;
  }
  const temp = await mkdtemp(join(tmpdir(), 'flatcar-ext-test-'));
  const started = Date.now();
  try {
    process.env[LEDGER] = join(temp, 'ledger');
    const projects = new Set(parts.flatMap((part) => (part.files === undefined ? part.projects : [])));
    const needed = [...(projects.has('merge') ? ['root'] : []), ...(projects.has('machine') ? ['stand-in'] : [])];
    const prepared = process.getuid?.() === 0 && needed.length > 0 ? prepare(needed, temp) : undefined;
    const reports: Report[] = [];
    for (const [index, part] of parts.entries()) reports.push(await runPart(part, index, temp));
    children.forEach((child) => child.kill());
    await prepared;
    const ran = new Set(parts.flatMap((part) => part.projects));
    const absent = chosen.files.length > 0 || chosen.project !== undefined ? [] : PROJECTS.filter((name) => !ran.has(name));
    const ledger = readLedger(await readFile(join(temp, 'ledger'), 'utf8').catch(() => ''));
    console.log(summarize(reports, ledger, absent, (Date.now() - started) / 1000));
    return reports.some(({ failed }) => failed.length > 0) ? 1 : 0;
  } finally {
    await rm(temp, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
