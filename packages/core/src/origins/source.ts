import { lutimes, mkdir, readdir, readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { archWords } from '../model/arch.ts';
import { openArchive } from '../debian/archive.ts';
import { UserError } from '../util/errors.ts';
import type { Component, SourceOrigin } from '../definition/types.ts';
import { isolation, takeFolder } from '../tools/sandbox.ts';
import { digestOf } from '../util/digest.ts';
import { compiledFormat, TOOLCHAIN_FORMAT } from '../tools/toolchains.ts';
import { unpack } from '../store/unpack.ts';
import { walk } from '../util/walk.ts';
import { pinnedBytes, type DescribeContext, type OriginContext, type OriginDescription, type OriginResult } from './origin.ts';

/** Raised when the same inputs are to give other bytes. */
const BUILD_FORMAT = 1;

const pathOf = (origin: SourceOrigin, component: Component): string => origin.path.replaceAll('{version}', component.version);

/** The key of a source tarball's pin. */
export function sourceLocator(origin: SourceOrigin, component: Component): string {
  return `debian:${pathOf(origin, component)}`;
}

async function scriptOf({ script }: SourceOrigin, dir: string): Promise<string> {
  const where = join(dir, script);
  return readFile(where, 'utf8').catch((cause: unknown) => {
    throw new UserError('the build script is missing', { where, cause, next: 'restore it from git' });
  });
}

/** What a program compiled by a script is made of: the tarball, the script's text and the compiler. */
export async function describeSource(origin: SourceOrigin, context: DescribeContext): Promise<OriginDescription> {
  const { component, dir, arch, records } = context;
  const locator = sourceLocator(origin, component);
  const { sha256, proof, size } = pinnedBytes(context, locator);
  const text = await scriptOf(origin, dir);
  return {
    materials: [{ locator, sha256, proof, ...(size === undefined ? {} : { size }) }],
    format: `source ${BUILD_FORMAT}, toolchain ${TOOLCHAIN_FORMAT}`,
    parameters: { script: origin.script, scriptDigest: digestOf(text) },
    tools: await records.c(arch),
  };
}

/**
 * Compiles a C program by a shell script of the extension, out of upstream's tarball as Debian has it.
 * The script runs in the unpacked folder, in a sandbox, and puts its programs into $OUT. It is given
 * CC, AR, PKG_CONFIG and a PATH that begins with the pinned compiler, HOST (GNU triplet of the target), VERSION and JOBS.
 */
export async function buildSource(origin: SourceOrigin, context: OriginContext): Promise<OriginResult> {
  const { component, dir, arch, store, tools, toolchains, sandbox, report, signal } = context;
  const description = await describeSource(origin, context);
  const path = pathOf(origin, component);
  const { sha256, size } = pinnedBytes(context, sourceLocator(origin, component));
  const script = join(dir, origin.script);
  const text = await scriptOf(origin, dir);
  const c = await toolchains.c(arch);
  const key = digestOf({
    ...compiledFormat(BUILD_FORMAT),
    sha256,
    text,
    arch,
    version: component.version,
    tools: c.records.map((one) => one.sha256),
    sandbox: isolation(sandbox),
  });
  const result = await store.result('source-build', key, (fresh) =>
    store.withTemp(async (temp) => {
      const file = await openArchive(store, report).fetchSource({ path, sha256, ...(size === undefined ? {} : { size }) });
      await unpack(file, path.split('/').at(-1) ?? '', join(temp, 'source'), { decompressor: (kind) => tools.command(kind) });
      const [top = '', ...others] = await readdir(join(temp, 'source'));
      if (others.length > 0) throw new UserError('the source archive has more than one folder', { where: path });
      // All of one age: make must not take generated files for older than what they were made of.
      for (const { full } of await walk(join(temp, 'source'))) await lutimes(full, 1, 1);
      const out = join(temp, 'files');
      await mkdir(out);
      report({ type: 'step', text: `compiling ${component.name} ${component.version} for ${arch}` });
      await sandbox.run('sh', ['-eu', script], {
        name: origin.script,
        work: temp,
        inputs: [script, dirname(c.bin)],
        cwd: join(temp, 'source', top),
        report,
        signal,
        env: {
          PATH: `${c.bin}:/usr/bin:/bin`,
          CC: join(c.bin, 'cc'),
          AR: join(c.bin, 'ar'),
          PKG_CONFIG: join(c.bin, 'pkg-config'),
          HOST: archWords(arch).triplet,
          VERSION: component.version,
          JOBS: String(availableParallelism()),
          OUT: out,
          SOURCE_DATE_EPOCH: '1',
        },
      });
      if ((await readdir(out)).length === 0) throw new UserError(`${component.name}: the build script made nothing`, { where: script });
      await takeFolder(temp, 'files', join(fresh, 'files'));
    }),
  );
  return { dir: join(result.dir, 'files'), ...description };
}
