import { mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { GoOrigin } from '../definition/types.ts';
import { archWords, type Arch } from '../model/arch.ts';
import { openGo, type GoCommand } from '../tools/go-command.ts';
import { goBuildError } from '../tools/go-errors.ts';
import { mainPackages, programName } from '../tools/go-module.ts';
import { isolation, takeFile } from '../tools/sandbox.ts';
import { compiledFormat, type CToolchain } from '../tools/toolchains.ts';
import { digestOf } from '../util/digest.ts';
import type { ExecOptions } from '../util/exec.ts';
import { UserError } from '../util/errors.ts';
import { copyPublic, makeFolder } from '../util/files.ts';
import { copyTree } from '../util/walk.ts';
import { describeGo, GO_FORMAT, goLocator, goSources, lockModuleOf } from './go.ts';
import {
  compileTogether,
  countingReport,
  countOf,
  namesOf,
  type OriginContext,
  type OriginDescription,
  type OriginResult,
} from './origin.ts';

/** A Go component to compile, with its inputs. */
interface GoRequest {
  readonly origin: GoOrigin;
  readonly context: OriginContext;
  readonly described: Awaited<ReturnType<typeof describeGo>>;
}

/** What components must have in common to be compiled by one call of go: the lock module, the compilers and all settings but packages and names. */
function settingsOf({ origin, context, described: { parameters, materials } }: GoRequest): string {
  const { packages: _, rename: __, ...shared } = parameters;
  const { component, arch } = context;
  return digestOf({ lockModule: lockModuleOf(origin, context), version: component.version, arch, materials, shared });
}

/** The key of a compiled component: the same whichever others it is compiled with, because its bytes are the same. */
function keyOf({ origin, context: { component, arch, sandbox }, described: { c, materials, parameters } }: GoRequest): string {
  const format = c === undefined ? { number: GO_FORMAT } : compiledFormat(GO_FORMAT);
  return digestOf({
    ...format,
    locator: goLocator(origin, component),
    sum: materials[0]?.sha256,
    arch,
    parameters,
    c: c?.map(({ sha256 }) => sha256),
    sandbox: isolation(sandbox),
  });
}

/** Copies the lock module, and beside it its module without some files. The path of the copy is relative: it must not be in the bytes. */
async function copyWithout(go: GoCommand, lockModule: string, module: string, without: readonly string[], dest: string): Promise<string> {
  const copy = join(dest, 'module');
  await copyTree(await go.offline(['list', '-m', '-f', '{{.Dir}}', module], { cwd: lockModule }), copy);
  for (const path of without) await rm(join(copy, path));
  // go.mod is edited below, and may be read-only in the checkout.
  for (const name of ['go.mod', 'go.sum']) await copyPublic(join(lockModule, name), join(dest, name));
  await go.offline(['mod', 'edit', '-replace', `${module}=./module`], { cwd: dest });
  return dest;
}

/** Copies a module of this repository without its tests: a compiler sees what the digest covers. */
async function copySources(folder: string, dest: string): Promise<string> {
  for (const path of await goSources(folder)) {
    await makeFolder(dirname(join(dest, path)));
    await copyPublic(join(folder, path), join(dest, path));
  }
  return dest;
}

/** The folder that go is called in: the lock module, or a copy. */
async function moduleFolder(go: GoCommand, { origin, context }: GoRequest, work: string): Promise<string> {
  const lockModule = lockModuleOf(origin, context);
  if (origin.folder !== undefined) return copySources(lockModule, join(work, 'source'));
  return origin.exclude === undefined ? lockModule : copyWithout(go, lockModule, origin.module, origin.exclude, join(work, 'source'));
}

/** The main packages of a component. Those of a module of this repository are named one by one. */
async function packagesToBuild(go: GoCommand, { origin, context }: GoRequest): Promise<string[]> {
  if (origin.folder !== undefined) return origin.packages.map((path) => (path === '.' ? origin.module : `${origin.module}/${path}`));
  return mainPackages(go, lockModuleOf(origin, context), origin.module, origin.packages);
}

/** The arguments of `go build` besides packages. */
function buildArgs({ gcflags, tags = '', ldflags = '' }: OriginDescription['parameters'], out: string): string[] {
  const compiling = gcflags === undefined ? [] : ['-gcflags', gcflags];
  return ['-v', '-trimpath', '-buildvcs=false', ...compiling, '-tags', tags, '-ldflags', ldflags, '-o', `${out}/`];
}

/** The environment of `go build`: the target at its lowest level of instructions, and the C compiler of programs that are partly C. */
function buildEnv(arch: Arch, c: CToolchain | undefined): Record<string, string> {
  const compiler = c && { CC: join(c.bin, 'cc'), AR: join(c.bin, 'ar'), PKG_CONFIG: join(c.bin, 'pkg-config') };
  return {
    GOOS: 'linux',
    GOARCH: archWords(arch).go,
    GOAMD64: 'v1',
    GOARM64: 'v8.0',
    CGO_ENABLED: c === undefined ? '0' : '1',
    ...compiler,
  };
}

/** A component with its main packages, while it is compiled. */
interface GoJob {
  readonly request: GoRequest;
  readonly packages: readonly string[];
  /** The folder of its result. */
  readonly fresh: string;
}

/** Splits jobs into calls of go, whose programs have one output folder: no call makes two programs of one name. */
function splitByNames(jobs: readonly GoJob[]): GoJob[][] {
  const calls: { readonly names: Set<string>; readonly jobs: GoJob[] }[] = [];
  for (const job of jobs) {
    const names = job.packages.map(programName);
    let call = calls.find((one) => names.every((name) => !one.names.has(name)));
    if (call === undefined) calls.push((call = { names: new Set(), jobs: [] }));
    call.jobs.push(job);
    for (const name of names) call.names.add(name);
  }
  return calls.map((call) => call.jobs);
}

/** Moves a component's programs out of the sandbox, by the names of its definition. A pattern may match packages that are no programs. */
async function takePrograms({ request: { origin, context }, packages, fresh }: GoJob, work: string, out: string): Promise<void> {
  const made = new Set(await readdir(join(work, out)));
  const programs = packages.filter((path) => made.has(programName(path)));
  if (programs.length === 0)
    throw new UserError(`${context.component.name}: the compiler made no program`, { where: lockModuleOf(origin, context) });
  const dir = join(fresh, 'files');
  await mkdir(dir);
  for (const path of programs) {
    const name = programName(path);
    await takeFile(work, join(out, name), join(dir, origin.rename?.[path.slice(origin.module.length + 1)] ?? name));
  }
}

/** The packages that a build compiles: those of the programs and all that they import, without Go's library, which is compiled already. */
async function packagesOf(
  go: GoCommand,
  packages: readonly string[],
  { tags = '', ...how }: ExecOptions & { readonly tags: string | undefined },
): Promise<Set<string>> {
  const list = ['list', '-deps', '-f', '{{if not .Standard}}{{.ImportPath}}{{end}}', '-tags', tags, ...packages];
  return new Set((await go.offline(list, how)).split('\n').filter((line) => line !== ''));
}

/** Calls go for components of one group, in a temporary folder. */
async function compileJobs(
  jobs: readonly GoJob[],
  request: GoRequest,
  { go, c, work, names }: { go: GoCommand; c: CToolchain | undefined; work: string; names: string },
): Promise<void> {
  const { origin, context, described } = request;
  const { parameters } = described;
  const { component, arch, sandbox, report, signal } = context;
  const lockModule = lockModuleOf(origin, context);
  const cwd = await moduleFolder(go, request, work);
  const env = buildEnv(arch, c);
  const list = jobs.flatMap(({ packages }) => packages);
  const all = await packagesOf(go, list, { tags: parameters['tags'], cwd, env, signal });
  const what = `${names} ${component.version} for ${arch}`;
  report({ type: 'step', text: `compiling ${what} with Go ${go.record.version}: ${countOf(all.size, 'package')}` });
  const inputs = c === undefined ? [lockModule] : [lockModule, dirname(c.bin)];
  const counted = countingReport(report, { what: names, total: all.size, unit: 'packages' }, (line) => all.has(line));
  const how = { name: 'go', work, cwd, inputs, env, report: counted, signal };
  for (const [index, call] of splitByNames(jobs).entries()) {
    const out = `files-${index}`;
    await mkdir(join(work, out));
    const args = [...buildArgs(parameters, join(work, out)), ...call.flatMap(({ packages }) => packages).toSorted()];
    await go.build(sandbox, args, how).catch((error: unknown) => {
      throw goBuildError(error, all);
    });
    for (const job of call) await takePrograms(job, work, out);
  }
}

/** Compiles the components of a group that the store lacks. Returns the folders of all by key. */
async function compileGroup(requests: readonly GoRequest[], first: GoRequest, signal: AbortSignal): Promise<(key: string) => string> {
  const { origin, described } = first;
  const context = { ...first.context, signal };
  const { store, tools, toolchains, component, arch, report } = context;
  const lockModule = lockModuleOf(origin, context);
  const go = await openGo(store, tools, report);
  const c = described.c === undefined ? undefined : await toolchains.c(arch);
  const byKey = new Map(requests.map((request) => [keyOf(request), request]));
  const wanted = [...byKey].map(([key, request]) => ({ key, name: request.context.component.name }));
  return compileTogether(context, 'go-build', wanted, async (fresh, work) => {
    const names = namesOf(wanted.filter(({ key }) => fresh.has(key)).map(({ name }) => name));
    report({ type: 'step', text: `fetching the modules of ${names} ${component.version}` });
    await go.online(['mod', 'download'], { cwd: lockModule, signal });
    await go.offline(['mod', 'verify'], { cwd: lockModule, next: 'the module cache in the store is damaged: run flatcar-ext cache prune' });
    const jobs: GoJob[] = [];
    for (const [key, folder] of fresh) {
      const request = byKey.get(key);
      if (request === undefined) continue;
      jobs.push({ request, fresh: folder, packages: await packagesToBuild(go, request) });
    }
    await compileJobs(jobs, { ...first, context }, { go, c, work, names });
  });
}

/**
 * The Go programs of one build, from the module proxy: static, for either architecture, with upstream's stamps, the same bytes on every run. Modules
 * are fetched and checked against go.sum first; the compiler then runs without network. Programs of one module with the same settings are compiled by
 * one call of the compiler: it compiles once what they share, and keeps all cores busy until the last is linked.
 */
export class GoPrograms {
  private readonly requests: GoRequest[] = [];
  private readonly groups = new Map<string, Promise<(key: string) => string>>();

  /**
   * Adds a component. Throws a UserError if the pins do not match it. Returns a function that compiles it with all others that were added before the
   * first of such functions is called; the first signal counts.
   */
  async add(origin: GoOrigin, context: OriginContext): Promise<(signal: AbortSignal) => Promise<OriginResult>> {
    const request = { origin, context, described: await describeGo(origin, context) };
    this.requests.push(request);
    return (signal) => this.compile(request, signal);
  }

  private async compile(request: GoRequest, signal: AbortSignal): Promise<OriginResult> {
    const settings = settingsOf(request);
    const group = this.requests.filter((one) => settingsOf(one) === settings);
    const folders = this.groups.get(settings) ?? compileGroup(group, request, signal);
    this.groups.set(settings, folders);
    const { c: _, ...description } = request.described;
    return { dir: join((await folders)(keyOf(request)), 'files'), ...description };
  }
}
