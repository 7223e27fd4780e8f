// Runs the files of .github/workflows by nektos/act in host mode. What act does unlike GitHub, and how that is covered:
// - called workflows: a failure of one ends the run, results of a matrix replace each other, conditions come after the matrix: github.patch.
// - permissions: github.patch gives each job a token that names what it may do, and refuses a called workflow that asks for more than its
//   caller has; the fake GitHub (@flatcar/testing) refuses what the token may not do.
// - environments: github.patch gives a job the secrets of its environment only, and a called workflow those that its caller passes on. That
//   deployments are limited to main is a setting of the repository (docs/releases.md); jobs with keys ask for main themselves, which is tested.
// - concurrency: one run at a time here. The buckets' conditional writes are tested in packages/publish; actionlint reads the keys.
// - timeout-minutes of jobs are ignored: a job that is cut off is tested as one that ends without outcomes.
// - actions cannot be fetched here: those of actions/ follow the same rules. Their versions are not compared with GitHub's.
// - runners: both architectures are this machine, and all jobs share a home, as self-hosted ones do; each has a workspace of its own.
import { spawn } from 'node:child_process';
import { chmod, copyFile, cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { digestOf, exec, hashFile, openGo, openSandbox, openStore, openTools, takeFile } from '@flatcar/core/engine';
import { type RunnerUser } from './runner-user.ts';

const MODULE = join(import.meta.dirname, 'act');
const ACTIONS = join(import.meta.dirname, 'actions');

/** act with github.patch, compiled once out of the Go module proxy and kept in the store. */
export async function actProgram(): Promise<string> {
  const store = openStore();
  const files = ['go.mod', 'go.sum', 'github.patch'].map((name) => join(MODULE, name));
  const key = digestOf({ number: 1, digests: await Promise.all(files.map((file) => hashFile(file))) });
  const { dir } = await store.result('test-act', key, async (fresh) => {
    console.error('compiling the runner of workflows for the tests (a minute, once)');
    const go = await openGo(store, openTools(store), () => undefined);
    const { Dir: source } = JSON.parse(await go.online(['mod', 'download', '-json', 'github.com/nektos/act'], { cwd: MODULE })) as {
      Dir: string;
    };
    await store.withTemp(async (temp) => {
      const copy = join(temp, 'act');
      await cp(source, copy, { recursive: true });
      await exec('chmod', ['-R', 'u+w', copy]);
      await exec('git', ['apply', '--whitespace=nowarn', join(MODULE, 'github.patch')], {
        cwd: copy,
        env: { GIT_CEILING_DIRECTORIES: temp },
      });
      await go.online(['mod', 'download'], { cwd: copy });
      await go.build(openSandbox(store, openTools(store)), ['-trimpath', '-buildvcs=false', '-o', join(temp, 'program'), '.'], {
        work: temp,
        cwd: copy,
        env: { CGO_ENABLED: '0' },
      });
      await takeFile(temp, 'program', join(fresh, 'act'));
    });
  });
  return join(dir, 'act');
}

/** The stand-ins: which action (with the folder in its repository), and its scripts below actions/. */
const STAND_INS: readonly (readonly [action: string, main: string, post?: string])[] = [
  ['actions/checkout', 'checkout.ts'],
  ['actions/cache', 'cache-main.ts', 'cache-post.ts'],
  ['actions/cache/restore', 'cache-restore.ts'],
  ['actions/cache/save', 'cache-save.ts'],
  ['actions/upload-artifact', 'upload-artifact.ts'],
  ['actions/download-artifact', 'download-artifact.ts'],
  ['actions/attest', 'attest.ts'],
  ['actions/create-github-app-token', 'create-github-app-token.ts'],
  ['aws-actions/configure-aws-credentials', 'configure-aws-credentials.ts'],
];

/** Writes the stand-ins as repositories of actions; gives act's options that name them for every reference in the workflows. */
export async function writeActions(dir: string, workflows: readonly string[]): Promise<string[]> {
  await cp(ACTIONS, join(dir, 'scripts'), { recursive: true });
  for (const [action, main, post] of STAND_INS) {
    const folder = join(dir, action);
    await mkdir(folder, { recursive: true });
    // act copies an action's folder elsewhere: what it runs there only leads back.
    const load = async (name: string): Promise<string> => {
      await writeFile(join(folder, name.replace('.ts', '.mjs')), `await import(${JSON.stringify(join(dir, 'scripts', name))});\n`);
      return name.replace('.ts', '.mjs');
    };
    const runs = {
      using: 'node24',
      main: await load(main),
      ...(post === undefined ? {} : { post: await load(post), 'post-if': 'success()' }),
    };
    await writeFile(join(folder, 'action.yml'), JSON.stringify({ name: action, description: 'a stand-in', runs }));
  }
  const used = new Set<string>();
  for (const file of workflows)
    for (const [, repository = '', reference = ''] of (await readFile(file, 'utf8')).matchAll(
      /uses: ([\w-]+\/[\w-]+)[\w/-]*@([0-9a-f]{40})/g,
    ))
      used.add(`--local-repository=${repository}@${reference}=${join(dir, repository)}`);
  return [...used];
}

/** How one job of a workflow ended. */
export interface JobResult {
  /** With the values of its matrix, such as `build hardening-x86-64`. */
  readonly job: string;
  readonly result: 'success' | 'failure' | 'skipped' | 'cancelled';
}

/** How a run of a workflow ended. */
export interface WorkflowRun {
  readonly jobs: readonly JobResult[];
  /** All that its steps printed. */
  readonly log: string;
  readonly failed: boolean;
}

/** What a run is given. */
export interface RunOptions {
  readonly user: RunnerUser;
  readonly program: string;
  /** The checkout whose workflow is run. */
  readonly checkout: string;
  readonly workflow: string;
  readonly event: string;
  readonly payload: object;
  readonly variables: Readonly<Record<string, string>>;
  /** Secrets of the repository, and of an environment as `<environment>__<name>`. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly env: Readonly<Record<string, string>>;
  readonly options: readonly string[];
  /** A folder of this run. */
  readonly dir: string;
}

interface LogLine {
  readonly msg?: string;
  readonly job?: string;
  readonly jobID?: string;
  readonly jobResult?: JobResult['result'];
  readonly matrix?: Readonly<Record<string, unknown>> | null;
  readonly raw_output?: boolean;
  readonly level?: string;
}

/** `report`; of a matrix `extension hardening`, of a called workflow `build hardening-x86-64` and `publish hardening`. */
function labelOf({ job = '', jobID = '', matrix }: LogLine): string {
  const [caller = '', ...inner] = job.trim().split('/');
  const { id, what, ...others } = matrix ?? {};
  if (inner.length === 2) return `${jobID} ${typeof id === 'string' ? id : caller.replace(/-\d+$/, '')}`;
  return [jobID, ...(typeof what === 'string' ? [what] : Object.values(others).map(String))].join(' ');
}

/** Lines of a file that act reads secrets and variables from. */
const settings = (of: Readonly<Record<string, string>>): string =>
  Object.entries(of)
    .map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`)
    .join('');

/** Runs one workflow as GitHub would for an event. */
export async function runWorkflow(about: RunOptions): Promise<WorkflowRun> {
  await mkdir(about.dir, { recursive: true });
  const at = (name: string): string => join(about.dir, name);
  await writeFile(at('event.json'), JSON.stringify(about.payload));
  await writeFile(at('secrets.yml'), settings(about.secrets), { mode: 0o600 });
  await writeFile(
    at('variables'),
    Object.entries(about.variables)
      .map(([key, value]) => `${key}=${JSON.stringify(value)}\n`)
      .join(''),
  );
  await copyFile(about.program, at('act'));
  await chmod(at('act'), 0o755);
  await about.user.own(about.dir);
  const [program, args] = about.user.as(at('act'), [
    about.event,
    '--json',
    '--directory',
    about.checkout,
    '--workflows',
    join(about.checkout, '.github/workflows', about.workflow),
    '--eventpath',
    at('event.json'),
    '--secret-file',
    at('secrets.yml'),
    '--var-file',
    at('variables'),
    '--action-cache-path',
    at('actions'),
    '--platform',
    'ubuntu-24.04=-self-hosted',
    '--platform',
    'ubuntu-24.04-arm=-self-hosted',
    '--platform',
    'ubuntu-22.04=-self-hosted',
    '--platform',
    'ubuntu-22.04-arm=-self-hosted',
    '--container-daemon-socket',
    '-',
    '--no-skip-checkout',
    '--no-cache-server',
    '--concurrent-jobs',
    '2',
    ...Object.entries(about.env)
      .filter(([key]) => key.startsWith('GITHUB_'))
      .map(([key, value]) => `--env=${key}=${value}`),
    ...about.options,
  ]);
  const child = spawn(program, args, { env: about.env, stdio: ['ignore', 'pipe', 'pipe'] });
  const log: string[] = [];
  const jobs = new Map<string, JobResult['result']>();
  const read = async (stream: NodeJS.ReadableStream): Promise<void> => {
    for await (const text of createInterface({ input: stream })) {
      let line: LogLine;
      try {
        line = JSON.parse(text) as LogLine;
      } catch {
        log.push(text);
        continue;
      }
      log.push(`[${line.job?.trim() ?? ''}] ${(line.msg ?? '').trimEnd()}`);
      if (line.jobResult !== undefined && jobs.get(labelOf(line)) !== 'failure') jobs.set(labelOf(line), line.jobResult);
    }
  };
  const ended = new Promise<number | null>((done) => child.once('close', done));
  await Promise.all([read(child.stdout), read(child.stderr)]);
  const failed = (await ended) !== 0;
  await writeFile(at('log'), `${log.join('\n')}\n`);
  return { jobs: [...jobs].map(([job, result]) => ({ job, result })), log: log.join('\n'), failed };
}
