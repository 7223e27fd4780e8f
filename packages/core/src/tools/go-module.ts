import { glob, readdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, matchesGlob } from 'node:path';
import * as v from 'valibot';
import type { Store } from '../store/store.ts';
import { digestOf } from '../util/digest.ts';
import { UserError } from '../util/errors.ts';
import type { Report } from '../util/events.ts';
import { hashFile, makeFolder } from '../util/files.ts';
import { parseJson } from '../util/json.ts';
import { GO_OUTPUT, openGo, type GoCommand } from './go-command.ts';
import { openSandbox, takeFile } from './sandbox.ts';
import type { Tools } from './tools.ts';

const ModuleVersion = v.object({ Path: v.string(), Version: v.string() });
const ReplacedModule = v.object({ Path: v.string(), Version: v.optional(v.string()) });
const listOf = <T extends v.GenericSchema>(item: T) => v.nullish(v.array(item));

/** The output of `go mod edit -json`, as far as it is used. */
const GoModSchema = v.object({
  /** For a go.mod without a version, go assumes 1.16 (Go Modules Reference, go directive). */
  Go: v.optional(v.string(), '1.16'),
  Replace: listOf(v.object({ Old: ReplacedModule, New: ReplacedModule })),
  Exclude: listOf(ModuleVersion),
  Require: listOf(ModuleVersion),
  Tool: listOf(v.object({ Path: v.string() })),
  Godebug: listOf(v.object({ Key: v.string(), Value: v.string() })),
});
type GoMod = v.InferOutput<typeof GoModSchema>;

/** A go.mod as `go mod edit -json` prints it. */
const readGoMod = async (go: GoCommand, args: readonly string[], cwd?: string): Promise<GoMod> =>
  parseJson(GoModSchema, await go.offline(args, { cwd }), { what: GO_OUTPUT, where: cwd ?? args.at(-1) ?? '' });

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

/** Name of the program that `go build` makes of a package: its last folder that is not a major version. */
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
  const downloaded = parseJson(
    v.object({ GoMod: v.string(), Dir: v.string() }),
    await go.online(['mod', 'download', '-json', `${module}@v${version}`], { cwd: '/', env: { GOFLAGS: '-modcacherw' } }),
    { what: GO_OUTPUT, where: `${module}@v${version}` },
  );
  // Projects with calendar versions keep their go.mod as vendor.mod (docker/cli): only the lock module lists its requirements then.
  const vendored = (await Array.fromAsync(glob('vendor.mod', { cwd: downloaded.Dir }))).map((name) => join(downloaded.Dir, name));
  const upstream = await readGoMod(go, ['mod', 'edit', '-json', vendored[0] ?? downloaded.GoMod]);
  const packages: string[] = [];
  for (const pattern of patterns) {
    const folders = pattern.includes('*') ? await Array.fromAsync(glob(pattern, { cwd: downloaded.Dir })) : [pattern];
    for (const folder of folders.toSorted()) {
      const files = await readdir(join(downloaded.Dir, folder)).catch(() => []);
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
  // tidy also reads tests, which may need modules in upstream's own folders; a build reports what it needs itself.
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
