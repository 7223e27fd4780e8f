import { basename, join } from 'node:path';
import type { Component, GoOrigin } from '../definition/types.ts';
import { archWords, type Arch } from '../model/arch.ts';
import { locatorText } from '../model/locator.ts';
import type { Material, ToolRecord } from '../model/payload.ts';
import { goSumDigest, lockModuleDir } from '../tools/go-module.ts';
import { TOOLCHAIN_FORMAT } from '../tools/toolchains.ts';
import { digestOf } from '../util/digest.ts';
import { UserError } from '../util/errors.ts';
import { hashFile } from '../util/files.ts';
import { expandTemplate } from '../util/template.ts';
import { walk } from '../util/walk.ts';
import { definedOnly, ownMaterial, pinnedMaterial, type DescribeContext, type OriginDescription } from './origin.ts';

/** Raised when the same inputs must give other bytes. */
export const GO_FORMAT = 1;

const moduleVersion = (origin: GoOrigin, component: Component): string => origin.version ?? component.version;

/** Folder of the lock module of a Go component, or of the module itself if it is located in this repository. */
export const lockModuleOf = (origin: GoOrigin, { component, dir }: Pick<DescribeContext, 'component' | 'dir'>): string =>
  origin.folder === undefined ? lockModuleDir(dir, origin.module, moduleVersion(origin, component)) : join(dir, origin.folder);

/** The key of a Go component's pin; undefined for a module of this repository, whose go.sum is beside it. */
export function goLocator(origin: GoOrigin, component: Component): string | undefined {
  if (origin.folder !== undefined) return undefined;
  return locatorText({ kind: 'module', module: origin.module, version: moduleVersion(origin, component) });
}

/** Paths in a Go module that no program is compiled from: tests with their data and helpers, and what go itself ignores (`go help packages`). */
const UNCOMPILED = /(?:^test\/|(?:^|\/)(?:testdata|node_modules|[_.][^/]*)(?:\/|$)|_test\.go$)/;

/** The files of a Go module of this repository that decide its programs, as paths below its folder, sorted. */
export async function goSources(folder: string): Promise<string[]> {
  const entries = await walk(folder);
  return entries
    .flatMap(({ path, type }) => (type === 'file' && !UNCOMPILED.test(path) && /\.go$|^go\.(?:mod|sum)$/.test(path) ? [path] : []))
    .toSorted();
}

/** The digest of a Go module of this repository: of the files that its programs are compiled from. */
async function sourcesDigest(folder: string): Promise<string> {
  const paths = await goSources(folder);
  if (!paths.includes('go.sum')) throw new UserError('the folder contains no Go module', { where: join(folder, 'go.sum') });
  return digestOf(await Promise.all(paths.map(async (path) => ({ path, sha256: await hashFile(join(folder, path)) }))));
}

/** The bytes that a Go program is compiled from: a module of this repository, or a lock module whose go.sum is pinned. */
async function goMaterial(origin: GoOrigin, context: DescribeContext): Promise<Material> {
  const locator = goLocator(origin, context.component);
  const folder = lockModuleOf(origin, context);
  if (locator === undefined) return ownMaterial(basename(folder), await sourcesDigest(folder));
  const sum = await goSumDigest(folder);
  const material = pinnedMaterial(context, locator);
  if (material.sha256 !== sum)
    throw new UserError(`wrong digest: go.sum is pinned as ${material.sha256}, and is ${sum}`, {
      where: folder,
      next: 'restore go.sum from git, or run flatcar-ext pin',
    });
  return material;
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
  const material = await goMaterial(origin, context);
  const go = await records.go();
  const c = origin.cgo === true ? await records.c(arch) : undefined;
  return {
    format: c === undefined ? `go ${GO_FORMAT}` : `go ${GO_FORMAT}, toolchain ${TOOLCHAIN_FORMAT}`,
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
