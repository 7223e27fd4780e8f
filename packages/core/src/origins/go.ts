import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Arch, archWords } from '../model/arch.ts';
import { UserError } from '../util/errors.ts';
import type { Component, GoOrigin } from '../definition/types.ts';
import { goSumDigest, mainPackages, openGo, programName, lockModuleDir, type GoCommand } from '../tools/go-module.ts';
import { copyPublic, hashFile } from '../util/files.ts';
import { isolation, takeFolder } from '../tools/sandbox.ts';
import { digestOf } from '../util/digest.ts';
import { compiledFormat, TOOLCHAIN_FORMAT } from '../tools/toolchains.ts';
import type { ToolRecord } from '../model/payload.ts';
import { copyTree } from '../util/walk.ts';
import { compileOnce, pinnedBytes, type DescribeContext, type OriginContext, type OriginDescription, type OriginResult } from './origin.ts';

/** Raised when the same inputs are to give other bytes. */
const BUILD_FORMAT = 1;

const moduleVersion = (origin: GoOrigin, component: Component): string => origin.version ?? component.version;

/** The key of a Go component's pin. */
export function goLocator(origin: GoOrigin, component: Component): string {
  return `go:${origin.module}@v${moduleVersion(origin, component)}`;
}

/** What `-X` writes: `{version}`, its parts and `{arch}` filled in. */
function stampsOf(origin: GoOrigin, component: Component, arch: Arch): Record<string, string> {
  const [major = '', minor = ''] = component.version.split('.');
  const words: Record<string, string> = { version: component.version, major, minor, arch: archWords(arch).go };
  return Object.fromEntries(
    Object.entries(origin.stamps ?? {}).map(([variable, value]) => [
      variable,
      value.replaceAll(/\{(\w+)\}/g, (whole, word: string) => words[word] ?? whole),
    ]),
  );
}

/** A copy of the lock module whose module is a copy too, without some files. Its path is relative, so that it says nothing of this machine. */
async function copyWithout(go: GoCommand, lockModule: string, module: string, without: readonly string[], dest: string): Promise<string> {
  const copy = join(dest, 'module');
  await copyTree(await go.offline(['list', '-m', '-f', '{{.Dir}}', module], { cwd: lockModule }), copy);
  for (const path of without) await rm(join(copy, path));
  // go.mod is edited below, and may be read-only in the checkout.
  for (const name of ['go.mod', 'go.sum']) await copyPublic(join(lockModule, name), join(dest, name));
  await go.offline(['mod', 'edit', '-replace', `${module}=./module`], { cwd: dest });
  return dest;
}

/** What a Go program is made of: the modules of its go.sum, the compilers and their flags. */
export async function describeGo(
  origin: GoOrigin,
  context: DescribeContext,
): Promise<OriginDescription & { readonly c: readonly ToolRecord[] | undefined }> {
  const { component, arch, records } = context;
  const locator = goLocator(origin, component);
  const lockModule = lockModuleDir(context.dir, origin.module, moduleVersion(origin, component));
  const sum = await goSumDigest(lockModule);
  const pinned = pinnedBytes(context, locator);
  if (pinned.sha256 !== sum)
    throw new UserError(`wrong digest: go.sum is pinned as ${pinned.sha256}, and is ${sum}`, {
      where: lockModule,
      next: 'restore go.sum from git, or run flatcar-ext pin',
    });
  const go = await records.go();
  const c = origin.cgo === true ? await records.c(arch) : undefined;
  // Programs that are partly C are linked by the C compiler: statically, and without an id that names the linker's run.
  const linking = c === undefined ? [] : ['-linkmode=external', "'-extldflags=-static -Wl,--build-id=none'"];
  const stamps = Object.entries(stampsOf(origin, component, arch)).map(
    ([variable, value]) => `-X ${value.includes(' ') ? `'${variable}=${value}'` : `${variable}=${value}`}`,
  );
  const parameters = {
    go: go.version,
    goToolchain: go.sha256,
    goMod: await hashFile(join(lockModule, 'go.mod')),
    packages: origin.packages.join(' '),
    tags: (origin.tags ?? []).join(','),
    ldflags: ['-s', '-w', '-buildid=', ...linking, ...stamps].join(' '),
    cgo: c === undefined ? '0' : '1',
    ...(origin.language === undefined ? {} : { gcflags: `${origin.module}/...=-lang=${origin.language}` }),
    ...(origin.without === undefined ? {} : { without: origin.without.join(' ') }),
    ...(origin.rename === undefined ? {} : { rename: JSON.stringify(origin.rename) }),
  };
  return {
    format: c === undefined ? `go ${BUILD_FORMAT}` : `go ${BUILD_FORMAT}, toolchain ${TOOLCHAIN_FORMAT}`,
    materials: [{ locator, sha256: sum, proof: pinned.proof }],
    parameters,
    tools: [go, ...(c ?? [])],
    c,
  };
}

/**
 * Compiles a Go program from the module proxy: static, for either architecture, stamped as upstream stamps it, the same
 * bytes on every run. Modules are fetched and checked against go.sum first; the compiler then runs without network.
 */
export async function buildGo(origin: GoOrigin, context: OriginContext): Promise<OriginResult> {
  const { component, arch, store, tools, toolchains, sandbox, report, signal } = context;
  const locator = goLocator(origin, component);
  const lockModule = lockModuleDir(context.dir, origin.module, moduleVersion(origin, component));
  const { c: cRecords, ...description } = await describeGo(origin, context);
  const { parameters } = description;
  const go = await openGo(store, tools, report);
  const c = cRecords === undefined ? undefined : await toolchains.c(arch);
  const key = digestOf({
    ...(cRecords === undefined ? { number: BUILD_FORMAT } : compiledFormat(BUILD_FORMAT)),
    locator,
    sum: description.materials[0]?.sha256,
    arch,
    parameters,
    c: cRecords?.map(({ sha256 }) => sha256),
    sandbox: isolation(sandbox),
  });
  const { dir } = await compileOnce(context, 'go-build', key, async (fresh, work) => {
    report({ type: 'step', text: `fetching the modules of ${component.name} ${component.version}` });
    await go.online(['mod', 'download'], { cwd: lockModule, signal });
    await go.offline(['mod', 'verify'], { cwd: lockModule, next: 'the module cache in the store is damaged: run flatcar-ext cache prune' });
    const packages = await mainPackages(go, lockModule, origin.module, origin.packages);
    report({ type: 'step', text: `compiling ${component.name} ${component.version} for ${arch} with Go ${go.record.version}` });
    const out = join(work, 'files');
    await mkdir(out);
    const cwd =
      origin.without === undefined ? lockModule : await copyWithout(go, lockModule, origin.module, origin.without, join(work, 'source'));
    await go.build(
      sandbox,
      [
        '-v',
        '-trimpath',
        '-buildvcs=false',
        ...(parameters['gcflags'] === undefined ? [] : ['-gcflags', parameters['gcflags']]),
        '-tags',
        parameters['tags'] ?? '',
        '-ldflags',
        parameters['ldflags'] ?? '',
        '-o',
        `${out}/`,
        ...packages,
      ],
      {
        name: 'go',
        work,
        cwd,
        inputs: [lockModule, ...(c === undefined ? [] : [dirname(c.bin)])],
        env: {
          GOOS: 'linux',
          GOARCH: archWords(arch).go,
          GOAMD64: 'v1',
          GOARM64: 'v8.0',
          CGO_ENABLED: c === undefined ? '0' : '1',
          ...(c === undefined ? {} : { CC: join(c.bin, 'cc'), AR: join(c.bin, 'ar'), PKG_CONFIG: join(c.bin, 'pkg-config') }),
        },
        report,
        signal,
      },
    );
    await takeFolder(work, 'files', join(fresh, 'files'));
    for (const path of packages) {
      const short = path.slice(origin.module.length + 1);
      const name = origin.rename?.[short];
      if (name !== undefined) await rename(join(fresh, 'files', programName(path)), join(fresh, 'files', name));
    }
    if ((await readdir(join(fresh, 'files'))).length === 0)
      throw new UserError(`${component.name}: the compiler made nothing`, { where: lockModule });
  });
  return { dir: join(dir, 'files'), ...description };
}
