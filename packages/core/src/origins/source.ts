import { lutimes, mkdir, readdir, readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { openArchive } from '../debian/archive.ts';
import type { Component, SourceOrigin } from '../definition/types.ts';
import { archWords } from '../model/arch.ts';
import { locatorText } from '../model/locator.ts';
import type { Material } from '../model/payload.ts';
import { digestOf } from '../util/digest.ts';
import { unpack } from '../store/unpack.ts';
import { isolation, takeFolder } from '../tools/sandbox.ts';
import { compiledFormat, TOOLCHAIN_FORMAT, type CToolchain } from '../tools/toolchains.ts';
import { UserError } from '../util/errors.ts';
import { expandTemplate } from '../util/template.ts';
import { walk } from '../util/walk.ts';
import {
  compileOnce,
  pinnedMaterial,
  type DescribeContext,
  type OriginContext,
  type OriginDescription,
  type OriginResult,
} from './origin.ts';

/** Raised when the same inputs must give other bytes. */
const BUILD_FORMAT = 1;

const pathOf = (origin: SourceOrigin, { version }: Component): string => expandTemplate(origin.path, { version });

/** The key of a source tarball's pin. */
export function sourceLocator(origin: SourceOrigin, component: Component): string {
  return locatorText({ kind: 'source', path: pathOf(origin, component) });
}

async function readScript({ script }: SourceOrigin, dir: string): Promise<string> {
  const where = join(dir, script);
  return readFile(where, 'utf8').catch((cause: unknown) => {
    throw new UserError('the build script is missing', { where, cause, next: 'restore it from git' });
  });
}

/** The inputs of a program that a script compiles: the tarball, the text of the script and the compiler. */
export async function describeSource(origin: SourceOrigin, context: DescribeContext): Promise<OriginDescription> {
  const { component, dir, arch, records } = context;
  const text = await readScript(origin, dir);
  return {
    materials: [pinnedMaterial(context, sourceLocator(origin, component))],
    format: `source ${BUILD_FORMAT}, toolchain ${TOOLCHAIN_FORMAT}`,
    parameters: { script: origin.script, scriptDigest: digestOf(text) },
    tools: await records.c(arch),
  };
}

/** Fetches and unpacks the tarball into `temp/source`. Returns the one folder in it. */
async function unpackSource(origin: SourceOrigin, context: OriginContext, { sha256, size }: Material, temp: string): Promise<string> {
  const { component, store, tools, report } = context;
  const path = pathOf(origin, component);
  const file = await openArchive(store, report).fetchSource({ path, sha256, size });
  const source = join(temp, 'source');
  await unpack(file, basename(path), source, { decompressor: (kind) => tools.command(kind) });
  const [top = '', ...others] = await readdir(source);
  if (others.length > 0) throw new UserError('the source archive has more than one top folder', { where: path });
  // One time for all files: make must not regenerate what the tarball contains.
  for (const { full } of await walk(source)) await lutimes(full, 1, 1);
  return join(source, top);
}

/** The environment of a build script: the pinned compiler and what is built. */
function scriptEnv({ component, arch }: OriginContext, c: CToolchain, out: string): Record<string, string> {
  return {
    PATH: `${c.bin}:/usr/bin:/bin`,
    CC: join(c.bin, 'cc'),
    AR: join(c.bin, 'ar'),
    PKG_CONFIG: join(c.bin, 'pkg-config'),
    HOST: archWords(arch).triplet,
    VERSION: component.version,
    JOBS: String(availableParallelism()),
    OUT: out,
    SOURCE_DATE_EPOCH: '1',
  };
}

/**
 * Compiles a C program by a shell script of the extension, from upstream's tarball in the Debian archive. The script runs in the unpacked
 * folder, in a sandbox, and puts its programs into $OUT. Its environment has CC, AR, PKG_CONFIG, a PATH that begins with the pinned compiler,
 * HOST (GNU triplet of the target), VERSION and JOBS.
 */
export async function buildSource(origin: SourceOrigin, context: OriginContext): Promise<OriginResult> {
  const { component, dir, arch, toolchains, sandbox, report, signal } = context;
  const description = await describeSource(origin, context);
  const material = pinnedMaterial(context, sourceLocator(origin, component));
  const script = join(dir, origin.script);
  const text = await readScript(origin, dir);
  const c = await toolchains.c(arch);
  const key = digestOf({
    ...compiledFormat(BUILD_FORMAT),
    sha256: material.sha256,
    text,
    arch,
    version: component.version,
    tools: c.records.map((one) => one.sha256),
    sandbox: isolation(sandbox),
  });
  const built = await compileOnce(context, 'source-build', key, async (fresh, temp) => {
    const cwd = await unpackSource(origin, context, material, temp);
    const out = join(temp, 'files');
    await mkdir(out);
    report({ type: 'step', text: `compiling ${component.name} ${component.version} for ${arch}` });
    const how = { name: origin.script, work: temp, cwd, report, signal, env: scriptEnv(context, c, out) };
    await sandbox.run('sh', ['-eu', script], { ...how, inputs: [script, dirname(c.bin)] });
    if ((await readdir(out)).length === 0) throw new UserError(`${component.name}: the build script left $OUT empty`, { where: script });
    await takeFolder(temp, 'files', join(fresh, 'files'));
  });
  return { dir: join(built, 'files'), ...description };
}
