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

// A definition for programs of packages: what they look for at run time is found by the same analysis that lint reports it by.

/** Something that programs look for and that a completed origin does not have. */
export interface LeftOut {
  /** As packages have it, or the name of a library. */
  readonly path: string;
  /** Why it cannot be added, or is not added unless somebody asks for it. */
  readonly why: string;
  /** What adds it all the same: `data: ['usr/share/x/**']`; undefined where nothing does. */
  readonly line?: string;
  /** True where lint reports it, so that the definition must waive it. */
  readonly isReported: boolean;
}

/** What was added for programs, with its size. */
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

/** What an origin is completed out of. */
export interface CompletionInput {
  /** The packages and all that they depend on, unpacked. */
  readonly packages: readonly PackageFiles[];
  /** At least the programs. */
  readonly origin: DebianOrigin;
  /** Files that are wanted besides, as `data` has them: those that come with what programs look for need no entry of their own. */
  readonly also?: readonly string[];
  /** The component's name and version. */
  readonly name: string;
  readonly version: string;
  readonly arch: Arch;
  /** What is larger is left out, in bytes; an interpreter's standard library is added whatever its size. */
  readonly limit: number;
}

/** A glob for any version of what has the component's as the name of a folder: `[0-9]*` in the place of `5.9`. */
const anyVersion = (glob: string, version: string): string =>
  glob
    .split('/')
    .map((part) => (/^\d+\./.test(part) && (part === version || version.startsWith(`${part}.`)) ? '[0-9]*' : part))
    .join('/');

/** The first line of a script that can be run; undefined for anything else. */
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

/** Why nothing can run or load a file that would be added; undefined for what is in order. */
async function problemOf(found: Found, index: ReadonlyMap<string, Found>, there: ReadonlySet<string>): Promise<string | undefined> {
  if (found.link !== undefined)
    return resolveLinks(index, found) === undefined ? `is a link to '${found.link}', which no package has` : undefined;
  const line = await firstLine(found);
  if (line !== undefined)
    return scriptProblem(line, (program) => (there.has(inUsr(program.slice(1))) || HOST_PROGRAMS.has(program) ? undefined : 'missing'))
      ?.what;
  const missing = ((await readElf(found.full))?.needed ?? []).filter((soname) => !there.has(soname));
  return missing.length === 0 ? undefined : `needs ${missing.join(', ')} of a package that is not among the dependencies`;
}

/** Decides on one omission: what to add for it, and what of it to leave out. */
async function judge(
  omitted: OmittedFiles,
  { version, limit, arch }: CompletionInput,
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
  if (size > limit && !isEssential)
    return { entries: [], left: [{ path, why: `${(size / (1 << 20)).toFixed(1)} MiB, more than most need`, line, isReported: true }] };
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
 * Adds to an origin what its programs, and what is added for them, look for at run time (compiled-in.ts), until nothing is omitted that can be
 * had. What cannot be run or loaded, and what is too large, is left out.
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
  const judged = new Set<string>();
  /** Each round adds what those before it look for; packages are finite, and so are the rounds. */
  const complete = async (): Promise<void> => {
    for (;;) {
      const chosen = await chooseFiles(packages, origin, name, arch);
      const there = new Set([...libraries, ...chosen.map(({ to }) => to)]);
      const omitted = (await omittedFiles({ packages, origin, chosen, name, arch })).filter(({ path }) => !judged.has(path));
      if (omitted.length === 0) return;
      for (const one of omitted) {
        judged.add(one.path);
        const { entries: more, added: what, left: out } = await judge(one, input, index, there);
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
 * Programs that packages start by scripts which nothing can run here: the name of each, with the file of the program of the same name that is
 * elsewhere in the packages (Debian's psql is a script in Perl that starts usr/lib/postgresql/17/bin/psql).
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
