import { existsSync } from 'node:fs';
import { chmod, copyFile, glob, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { writeTar } from '../archives/write-tar.ts';
import { archWords, hostArch, type Arch } from '../model/arch.ts';
import type { ToolRecord } from '../model/payload.ts';
import type { Store } from '../store/store.ts';
import { unpack } from '../store/unpack.ts';
import { digestOf } from '../util/digest.ts';
import { envOf, type Environment } from '../util/env.ts';
import type { Report } from '../util/events.ts';
import { exec, networkEnv, type ExecOptions } from '../util/exec.ts';
import { makeFolder } from '../util/files.ts';
import { readDataFile } from '../util/data-file.ts';
import { parseJson } from '../util/json.ts';
import { plainGoError } from './go-errors.ts';
import { isolation, type Sandbox, type SandboxOptions } from './sandbox.ts';
import type { Tools } from './tools.ts';

/** data/go-toolchain.json: the compiler as a module of the Go proxy, for both host architectures; digests are of the module's zip file. */
const ToolchainPinSchema = v.object({ version: v.string(), sha256: v.object({ 'x86-64': v.string(), arm64: v.string() }) });
type ToolchainPin = v.InferOutput<typeof ToolchainPinSchema>;

/** A Go compiler with its caches in the store, isolated from the user's Go settings. */
export interface GoCommand {
  readonly record: ToolRecord;
  /** Runs `go` with the user's configured proxy and checksum database. */
  online(args: readonly string[], options?: ExecOptions): Promise<string>;
  /** Runs `go` on fetched modules only: for commands that read modules and compile none. */
  offline(args: readonly string[], options?: ExecOptions): Promise<string>;
  /** Runs `go build` in a sandbox on fetched modules; its work folder has the cache of compiled packages, which begins with Go's standard library. */
  build(sandbox: Sandbox, args: readonly string[], options: SandboxOptions): Promise<string>;
}

/** Output of go, in errors about it. */
export const GO_OUTPUT = 'output of go';

const PASSED_ON = ['GOPROXY', 'GOSUMDB', 'GONOSUMDB', 'GONOPROXY', 'GOPRIVATE', 'GOINSECURE'];

/**
 * The user's settings for fetching modules: the variables, and the location of the file that `go env -w` writes.
 * All other GO* variables (GOROOT of an older Go, GOFLAGS, GOPATH, GOOS…) are for the user's own Go, and would break ours.
 */
export function userGoEnv(env: Environment = process.env): Record<string, string> {
  const names = [...PASSED_ON, 'GOENV', 'GOAUTH', 'XDG_CONFIG_HOME'];
  const settings = names.flatMap((name): [string, string][] => {
    const value = envOf(name, env);
    return value === undefined ? [] : [[name, value]];
  });
  // Overrides flags that the file of `go env -w` sets for all commands.
  return { ...Object.fromEntries(settings), GOTOOLCHAIN: 'local', GOFLAGS: '-modcacherw', GOWORK: 'off', GO111MODULE: 'on' };
}

const readToolchainPin = (): ToolchainPin => readDataFile(ToolchainPinSchema, new URL('data/go-toolchain.json', import.meta.url));

/** The pinned Go compiler for a host architecture. */
export async function goRecord(host: Arch): Promise<ToolRecord> {
  const { version, sha256 } = readToolchainPin();
  return { name: 'go', version, sha256: sha256[host], status: 'pinned' };
}

async function installToolchain(
  store: Store,
  bootstrap: string,
  env: Record<string, string>,
  report: Report,
): Promise<{ root: string; record: ToolRecord }> {
  const host = hostArch();
  const record = await goRecord(host);
  const { version, sha256 } = record;
  const module = `golang.org/toolchain@v0.0.1-go${version}.linux-${archWords(host).go}`;
  const { dir } = await store.result('go-toolchain', digestOf({ number: 1, sha256 }), async (fresh) => {
    report({ type: 'step', text: `fetching the Go ${version} compiler` });
    await store.withTemp(async (temp) => {
      let zip = await store.blob(sha256);
      if (zip === undefined) {
        const output = await exec(bootstrap, ['mod', 'download', '-json', module], {
          cwd: temp,
          env: { ...env, GOMODCACHE: join(temp, 'mod'), GOFLAGS: '-modcacherw' },
        }).catch((error: unknown) => {
          throw plainGoError(error, module);
        });
        zip = (await store.keep(parseJson(v.object({ Zip: v.string() }), output, { what: GO_OUTPUT, where: module }).Zip, sha256)).path;
      }
      await unpack(zip, 'toolchain.zip', join(temp, 'zip'));
      await rename(join(temp, 'zip', module), join(fresh, 'go')); // both are in the store
    });
    const root = join(fresh, 'go');
    // Module zips have no execute bits, and hide nested go.mod files as _go.mod (cmd/go/internal/toolchain does the same).
    for await (const file of glob(['bin/*', 'pkg/tool/*/*'], { cwd: root })) await chmod(join(root, file), 0o755);
    for await (const file of glob('**/_go.mod', { cwd: root })) await copyFile(join(root, file), join(root, dirname(file), 'go.mod'));
  });
  return { root: join(dir, 'go'), record };
}

/**
 * Go's compiled standard library as a tar: compiling it takes most of the time of a small program, and with a cache that builds can write to,
 * one build could change the packages of all others.
 */
async function compiledStandardLibrary(
  store: Store,
  { version, sha256 }: ToolRecord,
  compile: (work: string, env: Readonly<Record<string, string>>) => Promise<string>,
  { sandbox, env, report }: { sandbox: Sandbox; env: Readonly<Record<string, string>>; report: Report },
): Promise<string> {
  const settings = { ...Object.fromEntries(Object.entries(env).filter(([name]) => name.startsWith('GO'))), CGO_ENABLED: '0' };
  const key = digestOf({ number: 1, go: sha256, settings, sandbox: isolation(sandbox) });
  const { dir } = await store.result('go-standard-library', key, (fresh) =>
    store.withTemp(async (work) => {
      report({ type: 'step', text: `compiling the standard library of Go ${version}` });
      await compile(work, settings);
      await writeTar(join(work, 'go-build'), join(fresh, 'cache.tar'));
    }),
  );
  return join(dir, 'cache.tar');
}

/** The settings by which the user's Go fetches modules. */
async function fetchSettings(bootstrap: string): Promise<Record<string, string>> {
  const output = await exec(bootstrap, ['env', '-json', ...PASSED_ON], {
    cwd: '/', // a go.mod of a newer Go in the current folder must not count
    next: 'the Go on PATH does not run: correct it, or remove it from PATH to use a pinned one',
    env: userGoEnv(),
  });
  const settings = parseJson(v.record(v.string(), v.string()), output, { what: GO_OUTPUT, where: 'go env -json' });
  return { ...networkEnv(), ...settings };
}

const WITHOUT_NETWORK = { GOPROXY: 'off', GOSUMDB: 'off' };

class PinnedGo implements GoCommand {
  readonly record: ToolRecord;
  private readonly store: Store;
  private readonly report: Report;
  private readonly root: string;
  private readonly go: string;
  private readonly proxy: Readonly<Record<string, string>>;
  private readonly base: Readonly<Record<string, string>> & { readonly GOMODCACHE: string };

  constructor(
    { root, record }: { root: string; record: ToolRecord },
    { store, report, proxy }: { store: Store; report: Report; proxy: Readonly<Record<string, string>> },
  ) {
    this.record = record;
    this.store = store;
    this.report = report;
    this.proxy = proxy;
    this.root = root;
    this.go = join(root, 'bin', 'go');
    this.base = {
      GOENV: 'off',
      GOFLAGS: '-mod=readonly -modcacherw',
      GOTOOLCHAIN: 'local',
      GOROOT: root,
      GOWORK: 'off',
      GOTELEMETRY: 'off',
      GOMODCACHE: join(store.root, 'go', 'mod'),
      GOCACHE: join(store.root, 'go', 'build'),
      GOPATH: join(store.root, 'go'),
    };
  }

  online(args: readonly string[], options?: ExecOptions): Promise<string> {
    return this.run(args, this.proxy, options).catch((error: unknown) => {
      throw plainGoError(error, args.join(' '));
    });
  }

  offline(args: readonly string[], options?: ExecOptions): Promise<string> {
    return this.run(args, WITHOUT_NETWORK, options);
  }

  async build(sandbox: Sandbox, args: readonly string[], options: SandboxOptions): Promise<string> {
    await makeFolder(this.base.GOMODCACHE);
    const cache = await compiledStandardLibrary(
      this.store,
      this.record,
      (work, env) => sandbox.run(this.go, ['build', '-trimpath', 'std'], this.inside({ work, env })),
      { sandbox, env: options.env ?? {}, report: this.report },
    );
    const compiled = join(options.work, 'go-build');
    if (!existsSync(compiled)) await unpack(cache, 'cache.tar', compiled);
    return sandbox.run(this.go, ['build', ...args], this.inside(options));
  }

  private run(args: readonly string[], env: Readonly<Record<string, string>>, options: ExecOptions = {}): Promise<string> {
    return exec(this.go, args, { ...options, env: { ...this.base, ...env, ...options.env } });
  }

  /** The environment and the files of `go` in a sandbox. */
  private inside(options: SandboxOptions): SandboxOptions {
    return {
      ...options,
      inputs: [this.root, this.base.GOMODCACHE, ...(options.inputs ?? [])],
      env: {
        ...this.base,
        ...WITHOUT_NETWORK,
        GOCACHE: join(options.work, 'go-build'),
        GOPATH: join(options.work, 'go'),
        ...options.env,
      },
    };
  }
}

/**
 * Opens the pinned Go compiler. A Go of the host, or a pinned package, only fetches it, through the module proxy that the user's Go is configured
 * for. The store caches modules and compiled packages.
 */
export async function openGo(store: Store, tools: Tools, report: Report): Promise<GoCommand> {
  const bootstrap = await tools.bootstrapGo();
  const proxy = await fetchSettings(bootstrap);
  const toolchain = await installToolchain(store, bootstrap, { ...proxy, GOENV: 'off', GOTOOLCHAIN: 'local' }, report);
  return new PinnedGo(toolchain, { store, report, proxy });
}
