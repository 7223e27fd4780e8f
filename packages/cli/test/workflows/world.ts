import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { chmod, glob, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { digestOf, hashFile } from '@flatcar/core/engine';
import { startGitHub, withBucket, type FakeGitHub, type TestBucket } from '@flatcar/testing';
import { actProgram, runWorkflow, writeActions, type WorkflowRun } from './act.ts';
import { cloneRepository, type Clone } from './checkout.ts';
import { networkSettings, runnerUser, type RunnerUser } from './runner-user.ts';

const REPOSITORY = resolve(import.meta.dirname, '../../../..');

/** A folder served over http, as a CDN would in front of a bucket. */
export interface WebServer {
  readonly url: string;
  /** The status of every answer instead of the file; undefined: the file. */
  answer: number | undefined;
  close(): void;
}

async function serve(root: string): Promise<WebServer> {
  const state: { answer: number | undefined } = { answer: undefined };
  const server = createServer((request, response) => {
    if (state.answer !== undefined) return void response.writeHead(state.answer).end();
    const file = join(root, decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname));
    stat(file).then(
      (info) =>
        info.isFile()
          ? createReadStream(file).pipe(response.writeHead(200, { 'content-length': info.size }))
          : response.writeHead(404).end(),
      () => response.writeHead(404).end(),
    );
    return undefined;
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return Object.assign(state, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  });
}

/** What one run of a workflow is given; the rest is as the repository is set up. */
export interface Trigger {
  readonly event?: 'schedule' | 'push' | 'workflow_dispatch' | 'pull_request' | 'merge_group';
  readonly inputs?: Readonly<Record<string, string>>;
  /** Variables of the runner, which no workflow sets. */
  readonly env?: Readonly<Record<string, string>>;
  readonly ref?: string;
  /** More of the event. */
  readonly payload?: object;
}

/** Everything around the workflows: GitHub, a bucket, a web server in front of it, upstream, and the clone of a maintainer. */
export interface World {
  readonly dir: string;
  readonly github: FakeGitHub;
  readonly bucket: TestBucket;
  /** Serves what is published. */
  readonly web: WebServer;
  /** Serves upstream's files: `<host>/<path>` below this folder. */
  readonly upstream: { readonly dir: string; readonly server: WebServer };
  readonly clone: Clone;
  readonly variables: Record<string, string>;
  readonly secrets: Record<string, string>;
  run(workflow: string, trigger?: Trigger): Promise<WorkflowRun>;
  /** Names of published files, sorted. */
  published(): Promise<string[]>;
  attested(): Promise<string[]>;
  /** Names of the artifacts of the last run. */
  artifacts(): Promise<string[]>;
  /** Gives a file or folder to the user that workflows run as. */
  own(path: string): Promise<void>;
  close(): Promise<void>;
}

async function openBucket(dir: string): Promise<{ bucket: TestBucket; close: () => void }> {
  let close = (): void => undefined;
  const closed = new Promise<void>((done) => {
    close = done;
  });
  const bucket = await new Promise<TestBucket>((give, fail) => {
    withBucket(dir, async (one) => {
      give(one);
      await closed;
    }).catch(fail);
  });
  return { bucket, close };
}

/** What `npm ci` and the pinned Node install for the clone's locks: made once, as the runner's user, and kept. */
async function installed(user: RunnerUser, clone: Clone, env: Readonly<Record<string, string>>): Promise<string> {
  const locks = await Promise.all(
    ['package-lock.json', 'scripts/toolchain/package-lock.json'].map((name) => hashFile(join(clone.dir, name))),
  );
  const dir = join(user.home, 'installed', digestOf({ locks }).slice(0, 16));
  if (await stat(join(dir, 'complete')).catch(() => undefined)) return dir;
  const [program, args] = user.as('sh', [
    '-euc',
    'rm -rf "$2"; mkdir -p "$2"; cd "$1"; git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$2"; cd "$2"; scripts/run true; touch complete',
    'sh',
    clone.dir,
    dir,
  ]);
  await promisify(execFile)(program, args, { env, maxBuffer: 64 << 20 });
  return dir;
}

/** Sets up a repository on a fake GitHub whose clone has only `extensions`, with nothing published; `installs`: whether its jobs install packages. */
export async function openWorld(extensions: readonly string[], { installs = true } = {}): Promise<World> {
  const user = await runnerUser();
  const program = await actProgram();
  const dir = await mkdtemp(join(tmpdir(), 'workflows-'));
  await chmod(dir, 0o755);
  const at = (name: string): string => join(dir, name);
  for (const name of ['s3', 'upstream', 'state', 'actions', 'runs', 'bin']) await mkdir(at(name));
  const github = await startGitHub(dir);
  const { bucket, close: closeBucket } = await openBucket(at('s3'));
  const web = await serve(bucket.dir);
  const upstream = { dir: at('upstream'), server: await serve(at('upstream')) };
  const clone = await cloneRepository(dir, github.state.gitDir, extensions);
  await clone.push('first');
  await writeFile(at('bin/sudo'), await readFile(join(import.meta.dirname, 'actions/sudo')), { mode: 0o755 });
  const toolchain = join(REPOSITORY, 'scripts/toolchain/node_modules');
  const machine = process.arch === 'arm64' ? 'arm64' : 'x64';
  const base = {
    ...(await networkSettings()),
    HOME: user.home,
    USER: 'runner',
    LOGNAME: 'runner',
    LANG: 'C.UTF-8',
    PATH: [at('bin'), join(toolchain, `node-linux-${machine}/bin`), join(toolchain, '.bin'), '/usr/local/bin', '/usr/bin', '/bin'].join(
      ':',
    ),
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: 'safe.directory',
    GIT_CONFIG_VALUE_0: '*', // as on GitHub's runners
  };
  await writeFile(at('state/attested'), '');
  await user.own(at('state'));
  let runs = 0;
  const variables: Record<string, string> = {
    PUBLISHED_URL: web.url,
    PUBLISH_TO: 's3://bucket',
    AWS_ENDPOINT_URL: bucket.env['AWS_ENDPOINT_URL'] ?? '',
  };
  const secrets: Record<string, string> = {
    GITHUB_TOKEN: 'ghs_repository',
    RELEASE__AWS_ACCESS_KEY_ID: bucket.env['AWS_ACCESS_KEY_ID'] ?? '',
    RELEASE__AWS_SECRET_ACCESS_KEY: bucket.env['AWS_SECRET_ACCESS_KEY'] ?? '',
  };
  return {
    dir,
    github,
    bucket,
    web,
    upstream,
    clone,
    variables,
    secrets,
    run: async (workflow, { event = 'workflow_dispatch', inputs = {}, env = {}, ref = 'main', payload = {} } = {}) => {
      runs += 1;
      const files = await Array.fromAsync(glob(join(clone.dir, '.github/workflows/*.yml')));
      const modules = installs ? await installed(user, clone, base) : '';
      return runWorkflow({
        user,
        program,
        checkout: clone.dir,
        workflow,
        event,
        variables,
        secrets,
        dir: at(`runs/${runs}`),
        payload: {
          inputs,
          repository: { default_branch: 'main', fork: false },
          ...(event === 'push' ? { ref: `refs/heads/${ref}` } : {}),
          ...payload,
        },
        options: await writeActions(at('actions'), files),
        env: {
          ...base,
          GITHUB_SERVER_URL: github.url,
          GITHUB_API_URL: github.api,
          GITHUB_REPOSITORY: 'flatcar/extensions',
          GITHUB_REPOSITORY_OWNER: 'flatcar',
          GITHUB_ACTIONS: 'true',
          GITHUB_RUN_ID: String(runs),
          GITHUB_REF: `refs/heads/${ref}`,
          GITHUB_REF_NAME: ref,
          GITHUB_REF_TYPE: 'branch',
          GITHUB_SHA: await clone.git('rev-parse', 'HEAD'),
          SHA_REF: await clone.git('rev-parse', 'HEAD'),
          STANDIN_STATE: at('state'),
          STANDIN_INSTALLED: modules,
          FLATCAR_EXT_MIRROR: upstream.server.url,
          STANDIN_AWS_ACCESS_KEY_ID: bucket.env['AWS_ACCESS_KEY_ID'] ?? '',
          STANDIN_AWS_SECRET_ACCESS_KEY: bucket.env['AWS_SECRET_ACCESS_KEY'] ?? '',
          ...env,
        },
      });
    },
    published: async () => (await Array.fromAsync(glob('**/*', { cwd: bucket.dir }))).filter((name) => !name.startsWith('.')).toSorted(),
    attested: async () => (await readFile(at('state/attested'), 'utf8')).split('\n').filter((line) => line !== ''),
    own: (path) => user.own(path),
    artifacts: async () => (await readdir(join(at('state/artifacts'), String(runs))).catch(() => [])).toSorted(),
    close: async () => {
      web.close();
      upstream.server.close();
      closeBucket();
      await github.close();
      if (process.env['FLATCAR_EXT_KEEP'] === undefined) await rm(dir, { recursive: true, force: true });
      else console.error(`kept: ${dir}`);
    },
  };
}
