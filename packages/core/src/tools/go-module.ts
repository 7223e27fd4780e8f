import { chmod, copyFile, glob, readdir, rename, writeFile } from 'node:fs/promises';
import { basename, dirname, join, matchesGlob } from 'node:path';
import * as v from 'valibot';
import { type Arch, archWords, hostArch } from '../model/arch.ts';
import { writeTar } from '../archives/write-tar.ts';
import { envOf, type Environment } from '../util/env.ts';
import { messageOf, UserError } from '../util/errors.ts';
import { exec, networkEnv, type ExecOptions } from '../util/exec.ts';
import { UnreachableError } from '../http/errors.ts';
import { hashFile, makeFolder } from '../util/files.ts';
import { parseJson, readDataFile } from '../util/json.ts';
import { isolation, openSandbox, takeFile, type Sandbox, type SandboxOptions } from './sandbox.ts';
import { digestOf } from '../util/digest.ts';
import type { Store } from '../store/store.ts';
import type { Tools } from './tools.ts';
import type { Report } from '../util/events.ts';
import type { ToolRecord } from '../model/payload.ts';
import { unpack } from '../store/unpack.ts';

/** data/go-toolchain.json: the compiler, as its module in the Go proxy, for both kinds of host; digests are of the module's zip file. */
const ToolchainPinSchema = v.object({ version: v.string(), sha256: v.object({ 'x86-64': v.string(), arm64: v.string() }) });
type ToolchainPin = v.InferOutput<typeof ToolchainPinSchema>;

/** A Go compiler with its caches in the store, cut off from the user's own Go settings. */
export interface GoCommand {
  readonly record: ToolRecord;
  /** Runs `go` with the network of the user's configured proxy, checksum database included. */
  online(args: readonly string[], options?: ExecOptions): Promise<string>;
  /** Runs `go` with nothing but what was fetched: for what reads modules and compiles none. */
  offline(args: readonly string[], options?: ExecOptions): Promise<string>;
  /** Runs `go build` in a sandbox on what was fetched; the cache of compiled packages is in its work folder, and begins with Go's own. */
  build(sandbox: Sandbox, args: readonly string[], options: SandboxOptions): Promise<string>;
}

const ModuleVersion = v.object({ Path: v.string(), Version: v.string() });
const ReplacedModule = v.object({ Path: v.string(), Version: v.optional(v.string()) });
const listOf = <T extends v.GenericSchema>(item: T) => v.nullish(v.array(item));

/** What `go mod edit -json` prints of a go.mod, as far as it is used. */
const GoModSchema = v.object({
  /** Where a go.mod names none, go takes it for 1.16 (Go Modules Reference, go directive). */
  Go: v.optional(v.string(), '1.16'),
  Replace: listOf(v.object({ Old: ReplacedModule, New: ReplacedModule })),
  Exclude: listOf(ModuleVersion),
  Require: listOf(ModuleVersion),
  Tool: listOf(v.object({ Path: v.string() })),
  Godebug: listOf(v.object({ Key: v.string(), Value: v.string() })),
});
type GoMod = v.InferOutput<typeof GoModSchema>;

/** Output of go, in errors about it. */
const GO_OUTPUT = 'output of go';

/** A go.mod as `go mod edit -json` prints it. */
const readGoMod = async (go: GoCommand, args: readonly string[], cwd?: string): Promise<GoMod> =>
  parseJson(GoModSchema, await go.offline(args, { cwd }), { what: GO_OUTPUT, where: cwd ?? args.at(-1) ?? '' });

const PASSED_ON = ['GOPROXY', 'GOSUMDB', 'GONOSUMDB', 'GONOPROXY', 'GOPRIVATE', 'GOINSECURE'];

/**
 * What of the user's environment says how modules are fetched: the settings themselves, and where the file is that `go env -w` writes.
 * Everything else of GO* (GOROOT of an older Go, GOFLAGS, GOPATH, GOOS…) is for the user's own Go, and would break ours.
 */
export function userGoEnv(env: Environment = process.env): Record<string, string> {
  const names = [...PASSED_ON, 'GOENV', 'GOAUTH', 'XDG_CONFIG_HOME'];
  const settings = names.flatMap((name): [string, string][] => {
    const value = envOf(name, env);
    return value === undefined ? [] : [[name, value]];
  });
  // A flag that the file of `go env -w` sets for all commands gives way to one that changes nothing.
  return { ...Object.fromEntries(settings), GOTOOLCHAIN: 'local', GOFLAGS: '-modcacherw', GOWORK: 'off', GO111MODULE: 'on' };
}

/**
 * What `go` says of a module, in plain words: a proxy that cannot be reached, a module that is not there, a version that it does not have.
 * Everything else stays as it is. `where` is what was asked for.
 */
export function plainGoError(error: unknown, where: string): unknown {
  const said = messageOf(error);
  if (/dial tcp|no such host|i\/o timeout|TLS handshake|connection refused|server misbehaving/.test(said))
    return new UnreachableError('the Go module proxy cannot be reached', {
      where,
      next: 'check the network, or set GOPROXY to a proxy that can be reached',
      cause: error,
    });
  const [, module, version] = /([\w.~-]+(?:\/[\w.~-]+)*)@(v\d[\w.+-]*)/.exec(where) ?? [];
  const named =
    module ??
    where
      .split(/\s/)
      .findLast((word) => word.includes('@') || word.includes('/'))
      ?.replace(/@.*$/, '') ??
    where;
  const about = (what: string, next: string): UserError => new UserError(what, { where, next, cause: error });
  if (/malformed module path|missing dot in first path element/.test(said))
    return about(
      `'${named}' is not a valid Go module`,
      'name the path of its go.mod, such as github.com/OWNER/REPO or github.com/OWNER/REPO/v2',
    );
  if (
    /unknown revision|invalid version|no matching versions|404 Not Found|410 Gone|not found|no such file|400 Bad Request|403 Forbidden|not available/i.test(
      said,
    )
  )
    return version === undefined
      ? about(
          `the Go module proxy has no module '${named}'`,
          'check its path (that of its go.mod, with /v2 and so on from major 2 on), and the proxy (GOPROXY)',
        )
      : about(`the Go module proxy has no ${named} ${version}`, `list its versions: go list -m -versions ${named}`);
  return error;
}

const readToolchainPin = (): ToolchainPin => readDataFile(ToolchainPinSchema, new URL('data/go-toolchain.json', import.meta.url));

/** The pinned Go compiler, as it runs on a kind of host. */
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
        const said = await exec(bootstrap, ['mod', 'download', '-json', module], {
          cwd: temp,
          env: { ...env, GOMODCACHE: join(temp, 'mod'), GOFLAGS: '-modcacherw' },
        }).catch((error: unknown) => {
          throw plainGoError(error, module);
        });
        zip = (await store.keep(parseJson(v.object({ Zip: v.string() }), said, { what: GO_OUTPUT, where: module }).Zip, sha256)).path;
      }
      await unpack(zip, 'toolchain.zip', join(temp, 'zip'));
      await rename(join(temp, 'zip', module), join(fresh, 'go')); // both are in the store
    });
    const root = join(fresh, 'go');
    // Module zips carry no execute bits, and hide nested go.mod files as _go.mod (cmd/go/internal/toolchain does the same).
    for await (const file of glob(['bin/*', 'pkg/tool/*/*'], { cwd: root })) await chmod(join(root, file), 0o755);
    for await (const file of glob('**/_go.mod', { cwd: root })) await copyFile(join(root, file), join(root, dirname(file), 'go.mod'));
  });
  return { root: join(dir, 'go'), record };
}

/**
 * Go's cache of its own compiled packages, as a tar: they take most of the time of a small program, and a cache that builds write to would let
 * one give its packages to all others.
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

/**
 * The pinned Go compiler. A Go of the host, or a pinned package, only fetches it: the module proxy is the one
 * that the user's Go is configured for. Modules and compiled packages are cached in the store.
 */
export async function openGo(store: Store, tools: Tools, report: Report): Promise<GoCommand> {
  const bootstrap = await tools.bootstrapGo();
  const settings = parseJson(
    v.record(v.string(), v.string()),
    await exec(bootstrap, ['env', '-json', ...PASSED_ON], {
      cwd: '/', // a go.mod of a newer Go in the current folder does not count
      next: 'the Go on PATH does not run: correct it, or take it off PATH; then a pinned one is fetched',
      env: userGoEnv(),
    }),
    { what: GO_OUTPUT, where: 'go env -json' },
  );
  const proxy = { ...networkEnv(), ...settings };
  const { root, record } = await installToolchain(store, bootstrap, { ...proxy, GOENV: 'off', GOTOOLCHAIN: 'local' }, report);
  const base = {
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
  const run =
    (env: Record<string, string>) =>
    (args: readonly string[], options: ExecOptions = {}) =>
      exec(join(root, 'bin', 'go'), args, { ...options, env: { ...base, ...env, ...options.env } });
  const online = run(proxy);
  const go = join(root, 'bin', 'go');
  /** The environment and the files of `go` in a sandbox. */
  const inside = (options: SandboxOptions): SandboxOptions => ({
    ...options,
    inputs: [root, base.GOMODCACHE, ...(options.inputs ?? [])],
    env: {
      ...base,
      GOPROXY: 'off',
      GOSUMDB: 'off',
      GOCACHE: join(options.work, 'go-build'),
      GOPATH: join(options.work, 'go'),
      ...options.env,
    },
  });
  return {
    record,
    online: (args, options) =>
      online(args, options).catch((error: unknown) => {
        throw plainGoError(error, args.join(' '));
      }),
    offline: run({ GOPROXY: 'off', GOSUMDB: 'off' }),
    build: async (sandbox, args, options) => {
      await makeFolder(base.GOMODCACHE);
      const cache = await compiledStandardLibrary(
        store,
        record,
        (work, env) => sandbox.run(go, ['build', '-trimpath', 'std'], inside({ work, env })),
        {
          sandbox,
          env: options.env ?? {},
          report,
        },
      );
      const copy = join(options.work, 'go-build');
      await unpack(cache, 'cache.tar', copy);
      return sandbox.run(go, ['build', ...args], inside(options));
    },
  };
}

/** Folder of the lock module that pins a Go module and all that it needs, below an extension. */
export function lockModuleDir(extensionDir: string, module: string, version: string): string {
  return join(extensionDir, 'go', `${module}@v${version}`);
}

/** The main packages of a lock module that patterns such as `plugins/main/*` ask for. */
export async function mainPackages(go: GoCommand, lockModule: string, module: string, patterns: readonly string[]): Promise<string[]> {
  const mod = await readGoMod(go, ['mod', 'edit', '-json'], lockModule);
  const tools = (mod.Tool ?? []).map(({ Path }) => Path);
  const found = patterns.flatMap((pattern) => {
    const whole = pattern === '' || pattern === '.' ? module : `${module}/${pattern}`;
    const matching = tools.filter((path) => matchesGlob(path, whole));
    if (matching.length === 0)
      throw new UserError(`the lock module has no main package '${whole}'`, {
        where: join(lockModule, 'go.mod'),
        next: 'run flatcar-ext pin',
      });
    return matching;
  });
  return [...new Set(found)];
}

/** Name of the program that `go build` makes of a package: its last folder that is no major version. */
export function programName(packagePath: string): string {
  const last = basename(packagePath);
  return /^v\d+$/.test(last) ? basename(dirname(packagePath)) : last;
}

/**
 * Writes the lock module (go.mod, go.sum) for a module at a version: replaces of other modules are copied from
 * upstream's go.mod, since Go ignores those of dependencies. Replaces by folders (`./staging/src/k8s.io/api`) become
 * the published module, with the version that `local` gives.
 */
export async function pinGo(
  go: GoCommand,
  dir: string,
  module: string,
  version: string,
  patterns: readonly string[],
  local: (path: string) => string | undefined,
): Promise<void> {
  const said = parseJson(
    v.object({ GoMod: v.string(), Dir: v.string() }),
    await go.online(['mod', 'download', '-json', `${module}@v${version}`], { cwd: '/', env: { GOFLAGS: '-modcacherw' } }),
    { what: GO_OUTPUT, where: `${module}@v${version}` },
  );
  // Projects with calendar versions keep their go.mod as vendor.mod (docker/cli): nobody but the lock module knows its requirements then.
  const vendored = (await Array.fromAsync(glob('vendor.mod', { cwd: said.Dir }))).map((name) => join(said.Dir, name));
  const upstream = await readGoMod(go, ['mod', 'edit', '-json', vendored[0] ?? said.GoMod]);
  const packages: string[] = [];
  for (const pattern of patterns) {
    const folders = pattern.includes('*') ? await Array.fromAsync(glob(pattern, { cwd: said.Dir })) : [pattern];
    for (const folder of folders.toSorted()) {
      const files = await readdir(join(said.Dir, folder)).catch(() => []);
      if (files.some((file) => file.endsWith('.go'))) packages.push(folder === '' || folder === '.' ? module : `${module}/${folder}`);
    }
  }
  const replaces = (upstream.Replace ?? []).flatMap(({ Old, New }) => {
    const old = Old.Version === undefined ? Old.Path : `${Old.Path} ${Old.Version}`;
    if (!New.Path.startsWith('.')) return [`replace ${old} => ${New.Path} ${New.Version ?? ''}`];
    const published = local(Old.Path);
    return published === undefined ? [] : [`replace ${old} => ${Old.Path} ${published}`];
  });
  const lines = [
    `// Pins ${module} v${version} and all that it needs; made by flatcar-ext pin.`,
    'module wrapper',
    '',
    `go ${upstream.Go}`,
    '',
    ...(upstream.Godebug ?? []).map(({ Key, Value }) => `godebug ${Key}=${Value}`),
    ...packages.map((path) => `tool ${path}`),
    '',
    `require ${module} v${version}`,
    ...(vendored.length === 0 ? [] : (upstream.Require ?? []).map(({ Path, Version }) => `require ${Path} ${Version}`)),
    '',
    ...replaces,
    ...(upstream.Exclude ?? []).map(({ Path, Version }) => `exclude ${Path} ${Version}`),
  ];
  await makeFolder(dir);
  await writeFile(join(dir, 'go.mod'), `${lines.join('\n')}\n`);
  // tidy also looks at tests, which may need what upstream keeps in its own folders; what a build needs is told by the build.
  const unpublished = (upstream.Replace ?? []).some(({ Old, New }) => New.Path.startsWith('.') && local(Old.Path) === undefined);
  await go.online(['mod', 'tidy', ...(unpublished ? ['-e'] : [])], { cwd: dir, env: { GOFLAGS: '-modcacherw' } });
}

/** sha256 of a lock module's go.sum: the pin of a Go component, since go.sum has the digest of every module in it. */
export async function goSumDigest(lockModule: string): Promise<string> {
  return hashFile(join(lockModule, 'go.sum')).catch((cause: unknown) => {
    throw new UserError('the lock module is missing', { where: lockModule, next: 'run flatcar-ext pin', cause });
  });
}

/**
 * A program that this repository itself uses in lint and tests: the one `tool` of a lock module (go.mod, go.sum), compiled for this
 * machine and kept in the store. Gives its path.
 */
export async function buildGoTool(
  lockModule: string,
  { store, tools, report = () => undefined, ldflags = '' }: { store: Store; tools: Tools; report?: Report; ldflags?: string },
): Promise<string> {
  const go = await openGo(store, tools, report);
  const digests = await Promise.all(['go.mod', 'go.sum'].map((name) => hashFile(join(lockModule, name))));
  const key = digestOf({ number: 1, digests, go: go.record.sha256, ldflags });
  const { dir } = await store.result('go-program', key, async (fresh) => {
    const mod = await readGoMod(go, ['mod', 'edit', '-json'], lockModule);
    const [tool] = mod.Tool ?? [];
    if (tool === undefined) throw new UserError('the lock module has no tool', { where: join(lockModule, 'go.mod') });
    report({ type: 'step', text: `compiling ${tool.Path}` });
    await go.online(['mod', 'download'], { cwd: lockModule });
    await store.withTemp(async (work) => {
      await go.build(
        openSandbox(store, tools),
        ['-trimpath', '-buildvcs=false', '-ldflags', ldflags, '-o', join(work, 'program'), tool.Path],
        {
          work,
          cwd: lockModule,
          inputs: [lockModule],
          env: { CGO_ENABLED: '0' },
        },
      );
      await takeFile(work, 'program', join(fresh, 'program'));
    });
  });
  return join(dir, 'program');
}
