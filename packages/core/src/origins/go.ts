import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Component, GoOrigin } from '../definition/types.ts';
import { archWords, type Arch } from '../model/arch.ts';
import { locatorText } from '../model/locator.ts';
import type { ToolRecord } from '../model/payload.ts';
import { digestOf } from '../util/digest.ts';
import { openGo, type GoCommand } from '../tools/go-command.ts';
import { goSumDigest, lockModuleDir, mainPackages, programName } from '../tools/go-module.ts';
import { isolation, takeFolder } from '../tools/sandbox.ts';
import { compiledFormat, TOOLCHAIN_FORMAT, type CToolchain } from '../tools/toolchains.ts';
import { UserError } from '../util/errors.ts';
import { copyPublic, hashFile } from '../util/files.ts';
import { expandTemplate } from '../util/template.ts';
import { copyTree } from '../util/walk.ts';
import {
  compileOnce,
  definedOnly,
  pinnedMaterial,
  type DescribeContext,
  type OriginContext,
  type OriginDescription,
  type OriginResult,
} from './origin.ts';

/** Raised when the same inputs must give other bytes. */
const BUILD_FORMAT = 1;

const moduleVersion = (origin: GoOrigin, component: Component): string => origin.version ?? component.version;

const lockModuleOf = (origin: GoOrigin, { component, dir }: Pick<DescribeContext, 'component' | 'dir'>): string =>
  lockModuleDir(dir, origin.module, moduleVersion(origin, component));

/** The key of a Go component's pin. */
export function goLocator(origin: GoOrigin, component: Component): string {
  return locatorText({ kind: 'module', module: origin.module, version: moduleVersion(origin, component) });
}

/** The flags of the linker. Programs that are partly C are linked by the C compiler: statically, and without an id of the linker's run. */
function linkerFlags(origin: GoOrigin, component: Component, arch: Arch): string {
  const [major = '', minor = ''] = component.version.split('.');
  const words = { version: component.version, major, minor, arch: archWords(arch).go };
  const stamps = Object.entries(origin.stamps ?? {}).map(([variable, template]) => {
    const value = expandTemplate(template, words);
    return `-X ${value.includes(' ') ? `'${variable}=${value}'` : `${variable}=${value}`}`;
  });
  const linking = origin.cgo === true ? ['-linkmode=external', "'-extldflags=-static -Wl,--build-id=none'"] : [];
  return ['-s', '-w', '-buildid=', ...linking, ...stamps].join(' ');
}

/** The inputs of a Go program: the modules of its go.sum, the compilers and their flags. `c` has the records of the C compiler. */
export async function describeGo(
  origin: GoOrigin,
  context: DescribeContext,
): Promise<OriginDescription & { readonly c: readonly ToolRecord[] | undefined }> {
  const { component, arch, records } = context;
  const lockModule = lockModuleOf(origin, context);
  const sum = await goSumDigest(lockModule);
  const material = pinnedMaterial(context, goLocator(origin, component));
  if (material.sha256 !== sum)
    throw new UserError(`wrong digest: go.sum is pinned as ${material.sha256}, and is ${sum}`, {
      where: lockModule,
      next: 'restore go.sum from git, or run flatcar-ext pin',
    });
  const go = await records.go();
  const c = origin.cgo === true ? await records.c(arch) : undefined;
  return {
    format: c === undefined ? `go ${BUILD_FORMAT}` : `go ${BUILD_FORMAT}, toolchain ${TOOLCHAIN_FORMAT}`,
    materials: [material],
    parameters: definedOnly({
      go: go.version,
      goToolchain: go.sha256,
      goMod: await hashFile(join(lockModule, 'go.mod')),
      packages: origin.packages.join(' '),
      tags: (origin.tags ?? []).join(','),
      ldflags: linkerFlags(origin, component, arch),
      cgo: c === undefined ? '0' : '1',
      gcflags: origin.goVersion === undefined ? undefined : `${origin.module}/...=-lang=${origin.goVersion}`,
      without: origin.exclude?.join(' '),
      rename: origin.rename === undefined ? undefined : JSON.stringify(origin.rename),
    }),
    tools: [go, ...(c ?? [])],
    c,
  };
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

/** Renames programs whose main packages have other names. */
async function renamePrograms({ module, rename: names = {} }: GoOrigin, packages: readonly string[], dir: string): Promise<void> {
  for (const path of packages) {
    const name = names[path.slice(module.length + 1)];
    if (name !== undefined) await rename(join(dir, programName(path)), join(dir, name));
  }
}

/**
 * Compiles a Go program from the module proxy: static, for either architecture, with upstream's stamps, the same bytes on every run. Modules are
 * fetched and checked against go.sum first; the compiler then runs without network.
 */
export async function buildGo(origin: GoOrigin, context: OriginContext): Promise<OriginResult> {
  const { component, arch, store, tools, toolchains, sandbox, report, signal } = context;
  const lockModule = lockModuleOf(origin, context);
  const { c: cRecords, ...description } = await describeGo(origin, context);
  const { parameters } = description;
  const go = await openGo(store, tools, report);
  const c = cRecords === undefined ? undefined : await toolchains.c(arch);
  const format = cRecords === undefined ? { number: BUILD_FORMAT } : compiledFormat(BUILD_FORMAT);
  const key = digestOf({
    ...format,
    locator: goLocator(origin, component),
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
    const { exclude } = origin;
    const cwd = exclude === undefined ? lockModule : await copyWithout(go, lockModule, origin.module, exclude, join(work, 'source'));
    const inputs = c === undefined ? [lockModule] : [lockModule, dirname(c.bin)];
    await go.build(sandbox, [...buildArgs(parameters, out), ...packages], {
      name: 'go',
      work,
      cwd,
      inputs,
      env: buildEnv(arch, c),
      report,
      signal,
    });
    await takeFolder(work, 'files', join(fresh, 'files'));
    await renamePrograms(origin, packages, join(fresh, 'files'));
    if ((await readdir(join(fresh, 'files'))).length === 0)
      throw new UserError(`${component.name}: the compiler made no program`, { where: lockModule });
  });
  return { dir: join(dir, 'files'), ...description };
}
