import { lstat, open } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { omittedFiles, type OmittedFiles } from './compiled-in.ts';
import { readElf } from '../../inspect/elf.ts';
import type { DebianOrigin } from '../../definition/types.ts';
import { archWords } from '../../model/arch.ts';
import { fillIn, indexPackages, inUsr, matches, resolveLinks, type Found, type PackageFiles } from '../../debian/package-index.ts';
import { chooseFiles } from './choose.ts';
import { HOST_PROGRAMS } from '../../inspect/flatcar-host.ts';
import { scriptProblem } from '../../inspect/scripts.ts';
import type { Arch } from '../../model/arch.ts';

// Completes a definition for programs of packages: it adds the files that lint would report as missing.

/** A path that programs look for and that a completed origin lacks. */
export interface LeftOut {
  /** As packages have it, or the name of a library. */
  readonly path: string;
  /** Why it cannot be added, or is not added by default. */
  readonly why: string;
  /** The line that adds it: `data: ['usr/share/x/**']`; undefined if nothing can. */
  readonly line?: string;
  /** True if lint reports it, so that the definition must waive it. */
  readonly isReported: boolean;
}

/** Files that were added for programs, with their size. */
export interface Added {
  readonly line: string;
  readonly files: number;
  /** In bytes. */
  readonly size: number;
  /** Path in the image of the file that looks for it. */
  readonly wantedBy: string;
}

/** An origin with everything that its programs look for. */
export interface CompletedOrigin {
  readonly origin: DebianOrigin;
  readonly added: readonly Added[];
  readonly left: readonly LeftOut[];
}

/** The packages and the definition to complete. */
export interface CompletionInput {
  /** The packages and their dependencies, unpacked. */
  readonly packages: readonly PackageFiles[];
  /** An origin with at least its programs. */
  readonly origin: DebianOrigin;
  /** More globs for `data`. A glob that the completed origin includes already gets no entry. */
  readonly also?: readonly string[];
  /** The component's name and version. */
  readonly name: string;
  readonly version: string;
  readonly arch: Arch;
  /** In bytes: larger folders are left out, except for the standard library of an interpreter. */
  readonly limit: number;
}

/** A glob for any version, when a folder is named by the component's version: `[0-9]*` instead of `5.9`. */
const anyVersion = (glob: string, version: string): string =>
  glob
    .split('/')
    .map((part) => (/^\d+\./.test(part) && (part === version || version.startsWith(`${part}.`)) ? '[0-9]*' : part))
    .join('/');

/** The first line of an executable script; undefined for other files. */
async function firstLine({ full, link }: Found): Promise<string | undefined> {
  if (link !== undefined || ((await lstat(full)).mode & 0o111) === 0) return undefined;
  const file = await open(full);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(256), 0, 256, 0);
    const text = buffer.subarray(0, bytesRead).toString('latin1');
    return text.startsWith('#!') ? text.split('\n')[0] : undefined;
  } finally {
    await file.close();
  }
}

/** Why a file cannot be run or loaded; undefined if it can. */
async function problemOf(found: Found, index: ReadonlyMap<string, Found>, there: ReadonlySet<string>): Promise<string | undefined> {
  if (found.link !== undefined)
    return resolveLinks(index, found) === undefined ? `is a link to '${found.link}', which no package has` : undefined;
  const line = await firstLine(found);
  if (line !== undefined)
    return scriptProblem(line, (program) => (there.has(inUsr(program.slice(1))) || HOST_PROGRAMS.has(program) ? undefined : 'missing'))
      ?.what;
  const missing = ((await readElf(found.full))?.needed ?? []).filter((soname) => !there.has(soname));
  return missing.length === 0 ? undefined : `needs ${missing.join(', ')}, which no package of the dependencies has`;
}

/** True for the standard library of Perl, if only the library that embeds Perl looks for it. Python, in contrast, ends without its own. */
const isEmbeddedPerl = ({ path, wantedBy }: OmittedFiles, programs: readonly string[]): boolean =>
  /^usr\/(?:share|lib\/[^/]+)\/perl\//.test(path) && /\/libperl\.so\.[\d.]+$/.test(wantedBy) && !programs.includes('perl');

/** Decides about one omission: which files to add, and which to leave out. */
async function decideOmission(
  omitted: OmittedFiles,
  { version, limit, arch, origin }: CompletionInput,
  index: ReadonlyMap<string, Found>,
  there: ReadonlySet<string>,
): Promise<{ entries: readonly string[]; added?: Added; left: readonly LeftOut[] }> {
  const { path, key, wantedBy, isEssential } = omitted;
  const files = omitted.files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
  const { triplet } = archWords(arch);
  const general = (text: string): string => anyVersion(text.replaceAll(triplet, '{triplet}'), version);
  const size = (await Promise.all(files.map(async ({ full }) => (await lstat(full)).size))).reduce((sum, one) => sum + one, 0);
  const glob = anyVersion(omitted.glob, version);
  const line = `${key}: ['${glob}']`;
  const unwanted = isEmbeddedPerl(omitted, origin.programs)
    ? 'the image has no program perl, and a library that embeds Perl starts without it'
    : size > limit && !isEssential
      ? `${(size / (1 << 20)).toFixed(1)} MiB, more than most users need`
      : undefined;
  if (unwanted !== undefined) return { entries: [], left: [{ path, why: unwanted, line, isReported: true }] };
  const problems = await Promise.all(files.map(async (file) => ({ file, why: await problemOf(file, index, there) })));
  const broken = problems.flatMap(({ file, why }) => (why === undefined ? [] : [{ file, why }]));
  if (broken.length === files.length) return { entries: [], left: [{ path, why: broken[0]?.why ?? '', isReported: true }] };
  return {
    entries: [glob, ...broken.map(({ file }) => `!${general(file.path)}`)],
    added: { line, files: files.length - broken.length, size, wantedBy },
    left: broken.map(({ file, why }) => ({ path: file.path, why, isReported: false })),
  };
}

/**
 * Adds to an origin the files that its programs look for at run time (compiled-in.ts), and the files that these look for, until nothing is
 * missing. Files that cannot be run or loaded, and folders that are too large, are left out.
 */
export async function completeRelocation(input: CompletionInput): Promise<CompletedOrigin> {
  const { packages, name, arch, also = [] } = input;
  const index = await indexPackages(packages);
  const libraries = [...index.values()].filter(({ path }) => /\.so(?:\.|$)/.test(path)).map(({ path }) => basename(path));
  const entries = {
    programs: [...input.origin.programs],
    data: [...(input.origin.relocate?.data ?? [])],
    plugins: [...(input.origin.relocate?.plugins ?? [])],
  };
  const { programs, ...relocate } = entries;
  const origin: DebianOrigin = { ...input.origin, programs, relocate: { ...input.origin.relocate, ...relocate } };
  const added: Added[] = [];
  const left = new Map<string, LeftOut>();
  const decided = new Set<string>();
  /** Each round adds files for those of the round before; the packages have a finite number of files. */
  const complete = async (): Promise<void> => {
    for (;;) {
      const chosen = await chooseFiles(packages, origin, name, arch);
      const there = new Set([...libraries, ...chosen.map(({ to }) => to)]);
      const omitted = (await omittedFiles({ packages, origin, chosen, name, arch })).filter(({ path }) => !decided.has(path));
      if (omitted.length === 0) return;
      for (const one of omitted) {
        decided.add(one.path);
        const { entries: more, added: what, left: out } = await decideOmission(one, input, index, there);
        if (what !== undefined) added.push(what);
        for (const less of out) left.set(less.path, less);
        entries[one.key].push(...more);
      }
    }
  };
  await complete();
  const come = fillIn(entries.data, arch);
  const more = also.filter((path) => !come.some((glob) => matches(path, glob)));
  if (more.length > 0) {
    entries.data.push(...more);
    await complete();
  }
  return { origin, added, left: [...left.values()] };
}

/**
 * Programs that packages start by a script without its interpreter: the name of each, with the program of the same name elsewhere in the packages
 * (Debian's psql is a script in Perl that starts usr/lib/postgresql/17/bin/psql).
 */
export async function wrappedPrograms(packages: readonly PackageFiles[], programs: readonly string[]): Promise<ReadonlyMap<string, Found>> {
  const index = await indexPackages(packages);
  const found = new Map<string, Found>();
  for (const program of programs) {
    const wrapper = index.get(`usr/bin/${program}`);
    const real = wrapper === undefined ? undefined : resolveLinks(index, wrapper);
    const line = real === undefined ? undefined : await firstLine(real);
    const isRunnable =
      line === undefined ||
      scriptProblem(line, (one) => (HOST_PROGRAMS.has(one) || programs.includes(basename(one)) ? undefined : 'missing')) === undefined;
    if (wrapper !== undefined && isRunnable) continue;
    const elsewhere = [...index.values()].filter(
      ({ path, link }) =>
        link === undefined && basename(path) === program && path !== `usr/bin/${program}` && /^usr\/lib(?:exec)?\//.test(dirname(path)),
    );
    const elfFiles = await Promise.all(elsewhere.map(async (one) => ({ one, elf: await readElf(one.full) })));
    const [only, ...more] = elfFiles.filter(({ elf }) => elf?.interpreter !== undefined);
    if (only !== undefined && more.length === 0) found.set(program, only.one);
  }
  return found;
}
