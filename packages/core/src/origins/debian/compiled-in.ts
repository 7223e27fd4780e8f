import { readFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { type Arch, archWords } from '../../model/arch.ts';
import host from '../../model/data/flatcar-host.json' with { type: 'json' };
import { readElf } from '../../inspect/elf.ts';
import type { Omission } from '../../inspect/omission.ts';
import type { DebianOrigin } from '../../definition/types.ts';
import {
  fillIn,
  indexPackages,
  inUsr,
  matches,
  programGlob,
  resolveLinks,
  targetOf,
  type Found,
  type PackageFiles,
} from '../../debian/package-index.ts';
import { mapParallel } from '../../util/parallel.ts';
import type { ChosenFile } from './choose.ts';
import { RUNTIME_FILES } from './runtime-files.ts';

// Files of packages that programs look for by compiled-in paths and names, and that an image lacks.

/** An omission, with everything that decides whether to add it. */
export interface OmittedFiles extends Omit<Omission, 'line'> {
  /** The key of `debian()` that adds it. */
  readonly key: 'programs' | 'data' | 'plugins';
  /** The entry of that key: a program's name, a soname, or a glob with `{triplet}` for the architecture's word. */
  readonly glob: string;
  /** What the entry adds. */
  readonly files: readonly Found[];
  /** True for the standard library of an interpreter: without it the interpreter does not start. */
  readonly isEssential: boolean;
}

/** Folders with files of too many packages to tell what a program needs. */
const SHARED = /^usr(?:\/(?:lib|share|bin|libexec|lib64|include|src|games)(?:\/\{triplet\})?)?$/;

/**
 * Files that an image lacks on purpose, or that its host has: texts for people, translations, settings of systemd and of package tools,
 * modules that others add to an interpreter, desktops, debug information, time zones, and files that runtime-files.ts chooses.
 */
const SETTLED = [
  /^usr\/share\/(?:locale|man|doc|doc-base|info|lintian|bug|bash-completion\/completions|zsh\/(?:vendor-completions|site-functions)|fish\/vendor_[^/]+|applications|icons|pixmaps|metainfo|appdata|help|gtk-doc)(?:\/|$)/,
  /^usr\/lib\/(?:systemd|udev|modprobe\.d|modules-load\.d|binfmt\.d|tmpfiles\.d|sysusers\.d|sysctl\.d|environment\.d|init|lsb|dpkg|apt)(?:\/|$)/,
  /^usr\/share\/(?:debconf|dpkg|apt|dbus-1|polkit-1|zoneinfo|i18n|mime|pkgconfig|initramfs-tools)(?:\/|$)/,
  /^usr\/(?:share\/perl5|lib\/[^/]+\/perl5|lib\/python3\/dist-packages|lib\/(?:[^/]+\/)?pkgconfig|lib\/debug|include|src)(?:\/|$)/,
  /^usr\/lib\/(?:locale|[^/]+\/gconv)(?:\/|$)/,
  /\/ld-linux-[^/]*$/,
  /\/gio-launch-desktop$/, // starts programs from the menus of a desktop
  /^usr\/share\/misc\/magic$/, // libmagic reads the compiled form, which is added with it
  /\/lib(?:c|m|dl|rt|util|anl|resolv|pthread)\.so\.[\d.]+$/, // of the C library: programs that need them are linked to them
  /\/libidn2\.so\.[\d.]+$/, // the C library loads it for AI_IDN of getaddrinfo(3), and does without
  // Name-service modules are the host's, or built in; only init loads a policy of SELinux.
  /^usr\/lib\/[^/]+\/(?:libnss_[^/]*|libsepol\.so\.[\d.]+)$/,
];

/** Paths of programs and their files. */
const PATHS = /(?<![\w./-])\/(?:usr\/)?(?:lib|lib64|share|libexec|s?bin)\/[\w.+@%/-]+/g;
/** Names of libraries without a path, as dlopen(3) takes them. */
const SONAMES = /(?<=\0)lib[\w.+-]+\.so\.\d+(?:\.\d+)*(?=\0)/g;

/** The text in which a chosen file may name others: a whole ELF file, or a script without its first line; undefined for other files. */
async function textOf(file: string): Promise<{ text: string; isElf: boolean } | undefined> {
  const text = (await readFile(file)).toString('latin1');
  if (text.startsWith('\x7fELF')) return { text, isElf: true };
  return text.startsWith('#!') ? { text: text.slice(text.indexOf('\n') + 1), isElf: false } : undefined;
}

/** Paths in a text, as packages have them; for a pattern of printf, the folder before its first variable part. */
function pathsIn(text: string): Set<string> {
  const found = new Set<string>();
  for (const [match] of text.matchAll(PATHS)) {
    const [certain = ''] = match.split('%');
    const whole = certain === match ? match.replace(/[.,]+$/, '') : dirname(`${certain}x`);
    found.add(inUsr(whole.replaceAll(/\/+/g, '/').replace(/\/$/, '').slice(1)));
  }
  return found;
}

/** Files of packages that a chosen file names. */
interface Candidate {
  readonly path: string;
  readonly files: readonly Found[];
  readonly kind: 'file' | 'folder' | 'library' | 'interpreter';
}

/** Interpreters that compute the path of their standard library, by their file names as a program or as a library. */
const INTERPRETERS: readonly { readonly file: RegExp; readonly folder: (version: string) => string; readonly has: string }[] = [
  // Python computes the path from its own path or from the prefix: the file does not contain the path.
  { file: /^(?:lib)?python(\d\.\d+)(?:\.so\.[\d.]+)?$/, folder: (version) => `usr/lib/python${version}`, has: 'encodings/__init__.py' },
];

/** The files of packages by path, by folder with everything below it, and libraries by name. */
class Places {
  readonly index: ReadonlyMap<string, Found>;
  readonly folders = new Map<string, Found[]>();
  readonly libraries = new Map<string, Found>();
  readonly triplet: string;
  constructor(index: ReadonlyMap<string, Found>, triplet: string) {
    this.index = index;
    this.triplet = triplet;
    for (const found of index.values()) {
      for (let folder = dirname(found.path); folder.includes('/'); folder = dirname(folder)) {
        const files = this.folders.get(folder) ?? [];
        this.folders.set(folder, files);
        files.push(found);
      }
      if (dirname(found.path) === `usr/lib/${triplet}` && basename(found.path).includes('.so'))
        this.libraries.set(basename(found.path), found);
    }
  }

  /** The files that a path names; undefined for a path that no package has, and for a folder that all packages share. */
  candidate(path: string): Candidate | undefined {
    const file = this.index.get(path);
    const folder = file?.link === undefined ? path : targetOf(file);
    const files = this.folders.get(folder);
    if (files !== undefined && !SHARED.test(folder.replace(this.triplet, '{triplet}'))) return { path: folder, files, kind: 'folder' };
    return file === undefined ? undefined : { path, files: [file], kind: 'file' };
  }
}

/**
 * The files of a folder that belong to the file which names the folder: those of packages of the same source, and of packages that the folder is
 * named for. Many packages may have files there.
 */
function related({ path, files }: Candidate, user: string, sources: ReadonlyMap<string, string>, triplet: string): readonly Found[] {
  const sourceOf = (name: string): string => sources.get(name) ?? name;
  const [, ...parts] = path.split('/').filter((part) => part !== triplet);
  const named = parts.slice(1).filter(({ length }) => length > 2);
  return files.filter(
    (file) =>
      sourceOf(file.package) === sourceOf(user) ||
      [file.package, sourceOf(file.package)].some((name) => named.some((part) => name.includes(part.toLowerCase()))),
  );
}

/** The files of packages that a file names. Linked libraries do not count: the loader finds them. */
async function candidatesOf(file: string, places: Places): Promise<Candidate[]> {
  const found = await textOf(file);
  if (found === undefined) return [];
  const paths = [...pathsIn(found.text)].flatMap((path) => places.candidate(path) ?? []);
  if (!found.isElf) return paths;
  const needed = new Set((await readElf(file))?.needed);
  const libraries = [...found.text.matchAll(SONAMES)].flatMap(([soname]): Candidate[] => {
    const library = needed.has(soname) ? undefined : places.libraries.get(soname);
    return library === undefined ? [] : [{ path: library.path, files: [library], kind: 'library' }];
  });
  const interpreters = INTERPRETERS.flatMap(({ file: names, folder, has }): Candidate[] => {
    const version = names.exec(basename(file))?.[1];
    const first = version === undefined ? undefined : places.index.get(`${folder(version)}/${has}`);
    return version === undefined || first === undefined ? [] : [{ path: folder(version), files: [first], kind: 'interpreter' }];
  });
  return [...paths, ...libraries, ...interpreters];
}

/** The name that occurs most often. */
function most(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].toSorted(([, a], [, b]) => b - a)[0]?.[0] ?? '';
}

/** The key of `debian()` that adds a candidate, and the entry. */
function entryFor({ path, kind, files }: Candidate, triplet: string): Pick<OmittedFiles, 'key' | 'glob'> {
  const isPlugins = kind !== 'interpreter' && path.startsWith('usr/lib/') && files.every((file) => /\.so(?:\.|$)/.test(file.path));
  if (path.startsWith('usr/bin/')) return { key: 'programs', glob: basename(path) };
  if (kind === 'library') return { key: 'plugins', glob: basename(path) };
  const glob = kind === 'file' ? path : `${path}/**`;
  return { key: isPlugins ? 'plugins' : 'data', glob: glob.replaceAll(triplet, '{triplet}') };
}

/** The packages and the definition in which omissions are searched. */
export interface RelocationInput {
  /** All packages that may contain missing files, unpacked. */
  readonly packages: readonly PackageFiles[];
  readonly origin: DebianOrigin;
  /** The result of chooseFiles for them. */
  readonly chosen: readonly ChosenFile[];
  /** The component's name. */
  readonly name: string;
  readonly arch: Arch;
}

/**
 * Files of packages that chosen programs, libraries and scripts name by path or by library name, and that the image lacks: plugins, data, helper
 * programs, libraries that are loaded by name, the standard library of an interpreter. Files that a `!` of the definition excludes do not count,
 * nor do texts for people and files of every Flatcar (SETTLED, data/flatcar-host.json).
 */
export async function omittedFiles(input: RelocationInput): Promise<OmittedFiles[]> {
  const { packages, origin, chosen, name, arch } = input;
  const { triplet } = archWords(arch);
  const index = await indexPackages(packages);
  const places = new Places(index, triplet);
  const sources = new Map(packages.flatMap((one): [string, string][] => (one.source === undefined ? [] : [[one.name, one.source]])));
  const placeOf = (path: string): string =>
    path.startsWith(`usr/lib/${triplet}/`) ? path.replace(`usr/lib/${triplet}`, `usr/lib/${name}`) : path;

  const there = { from: new Set(chosen.flatMap(({ from }) => from ?? [])), to: new Set(chosen.map(({ to }) => to)) };
  const isThere = (found: Found): boolean =>
    there.from.has(found.full) || there.to.has(placeOf(found.path)) || there.from.has(resolveLinks(index, found)?.full ?? found.full);
  const { relocate = {} } = origin;
  const names = [...origin.programs.map(programGlob), ...(relocate.plugins ?? []), ...(relocate.data ?? []), ...(relocate.siblings ?? [])];
  const leftOut = fillIn(
    names.filter((one) => one.startsWith('!')).map((one) => one.slice(1)),
    arch,
  );
  const runtime = fillIn(
    RUNTIME_FILES.flatMap(({ files }) => files.map((one) => one.replace(/^!/, ''))),
    arch,
  );
  const hostPrograms = new Set([...host.bin, ...host.sbin].map((one) => `usr/bin/${one}`));
  const isSettled = (found: Found): boolean =>
    SETTLED.some((pattern) => pattern.test(found.path)) ||
    hostPrograms.has(found.path) ||
    [...leftOut, ...runtime].some((pattern) => matches(found.path, pattern));

  const omissions = new Map<string, OmittedFiles>();
  const addOmission = (candidate: Candidate, user: ChosenFile): void => {
    if (omissions.has(candidate.path)) return;
    const files = candidate.kind === 'folder' ? related(candidate, user.package, sources, triplet) : candidate.files;
    // If some files of a folder were chosen, the others are left out on purpose.
    if (files.length === 0 || candidate.files.some(isThere) || files.every(isSettled)) return;
    const owner = most(files.map((file) => file.package));
    const { path } = candidate;
    omissions.set(path, {
      path: candidate.kind === 'library' ? basename(path) : path,
      at: placeOf(path),
      wantedBy: user.to,
      package: owner,
      ...entryFor({ ...candidate, files }, triplet),
      // The entry adds all files of a folder; one file represents the standard library of an interpreter.
      files: candidate.kind === 'interpreter' ? (places.folders.get(path) ?? files) : candidate.files,
      isEssential: candidate.kind === 'interpreter',
    });
  };

  const users = chosen.filter(({ from, asIs }) => from !== undefined && asIs !== true);
  const candidates = await mapParallel(users, async (user) => ({ user, found: await candidatesOf(user.from ?? '', places) }), 4);
  for (const { user, found } of candidates) for (const candidate of found) addOmission(candidate, user);
  // A folder includes the omissions below it.
  return [...omissions.values()]
    .filter(({ at }) => ![...omissions.values()].some((other) => at.startsWith(`${other.at}/`)))
    .toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

/** The omissions for records and lint, each with the line of the definition that adds the files. */
export async function relocationOmissions(input: RelocationInput): Promise<Omission[]> {
  const found = await omittedFiles(input);
  return found.map(({ path, at, wantedBy, package: owner, key, glob }) => ({
    path,
    at,
    wantedBy,
    package: owner,
    line: `${key}: ['${glob}']`,
  }));
}
