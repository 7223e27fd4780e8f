import { chmod, copyFile, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join, normalize, relative } from 'node:path';
import { makeFolder } from '../../util/files.ts';
import { archWords } from '../../model/arch.ts';
import { hostPathsOf, LOADER_FILES, loaderFolders, text } from '../../inspect/loader.ts';
import { hasOverlappingSegments, readElf, readImports, type Elf } from '../../inspect/elf.ts';
import { UserError } from '../../util/errors.ts';
import type { DebianOrigin } from '../../definition/types.ts';
import {
  indexPackages,
  inUsr,
  programGlob,
  resolveLinks,
  select,
  targetOf,
  type Found,
  type PackageFiles,
} from '../../debian/package-index.ts';
import { mapParallel } from '../../util/parallel.ts';
import { padded, pathEdits, RUNTIME_FILES, type Edit } from './runtime-files.ts';
import type { Tools } from '../../tools/tools.ts';
import type { Arch } from '../../model/arch.ts';

// How a program out of a distribution's packages is made to run on any host:
// - its libraries, and those that they need, stand in a folder of the component's own, the C library and its loader among them;
// - it starts by that loader (PT_INTERP), and every ELF names the folder (DT_RUNPATH, which is not inherited);
// - paths below the distribution's library folder that are compiled in (gconv, plugins) lead to that folder;
// - the loader itself reads neither the host's ld.so.cache nor its ld.so.preload, and searches no folder of the host.

/** A file of a package, and its place in the component. */
export interface ChosenFile {
  readonly package: string;
  /** Path in the component: `usr/bin/gdb`. */
  readonly to: string;
  /** Package of the link that led to it, where that is another one. */
  readonly through?: string;
  /** On disk; of links the target instead. */
  readonly from?: string;
  readonly link?: string;
  /** True for what stays as it is: modules that the host's own programs load. */
  readonly asIs?: boolean;
  /** Of dynamic ELF files that are to be relocated: what they load, and folders (absolute) to look in. */
  readonly elf?: { readonly interpreter: boolean; readonly runpath: readonly string[] };
  /** True for the loader, which is edited only. */
  readonly loader?: boolean;
}

/** Name-service modules of the host that a program's own C library may load, by name: the host's users are known there only. */
export const HOST_NSS: readonly string[] = ['usrfiles', 'sss', 'systemd'].map((service) => `libnss_${service}.so.2`);
/** Where Flatcar's C library looks, on both architectures. */
const HOST_LIBRARIES = 'usr/lib64';

/** Chooses what an origin asks for out of unpacked packages, with all libraries that it needs; gives each file its place. */
export async function chooseFiles(
  packages: readonly PackageFiles[],
  origin: DebianOrigin,
  name: string,
  arch: Arch,
): Promise<readonly ChosenFile[]> {
  const { triplet, loader } = archWords(arch);
  const index = await indexPackages(packages);
  const libraries = `usr/lib/${triplet}`;
  const folder = `usr/lib/${name}`;
  const loaderName = basename(loader);
  const place = (path: string): string => (path.startsWith(`${libraries}/`) ? folder + path.slice(libraries.length) : path);

  const chosen = new Map<string, ChosenFile>();
  /** ELF files that are relocated, by their place, with where they come from. */
  const elfFiles = new Map<string, { found: Found; elf: Elf }>();
  const add = async (
    found: Found,
    to: string,
    { relocate = true, through }: { relocate?: boolean; through?: Found } = {},
  ): Promise<void> => {
    if (chosen.has(to)) return;
    const link = through === undefined || through.package === found.package ? {} : { through: through.package };
    chosen.set(to, { package: found.package, ...link, to, from: found.full, asIs: relocate ? undefined : true });
    const elf = relocate ? await readElf(found.full) : undefined;
    if (elf !== undefined && (elf.interpreter !== undefined || elf.needed.length > 0)) elfFiles.set(to, { found, elf });
  };
  const addLink = (found: Found, to: string, link: string): void => {
    if (!chosen.has(to)) chosen.set(to, { package: found.package, to, link });
  };

  /** Adds files at their places; a link leads to where its target is, which comes with it where nothing else brings that. */
  const addAll = async (files: readonly (readonly [Found, string])[]): Promise<void> => {
    for (const [found, to] of files) {
      const target = found.link === undefined ? undefined : targetOf(found);
      const same = files.find(([one]) => one.path === target)?.[1];
      const real = resolveLinks(index, found);
      const there = same ?? [...chosen.values()].find((one) => real !== undefined && one.from === real.full)?.to;
      if (real === undefined) {
        if (found.link?.startsWith('/etc/alternatives/') === true) continue; // what Debian's administrator may choose
        addLink(found, to, found.link ?? '');
      } else if (found.link === undefined) await add(found, to);
      else if (there !== undefined) addLink(found, to, relative(dirname(to), there));
      else await add(real, to, { through: found });
    }
  };

  const programs = select(index, origin.programs.map(programGlob), arch);
  for (const one of programs) {
    const renamed = (path: string): string => origin.rename?.[basename(path)] ?? basename(path);
    const real = resolveLinks(index, one);
    if (real === undefined)
      throw new UserError(`'${basename(one.path)}' is a link to '${one.link}', which no package has`, {
        next: 'name the program that it stands for',
      });
    if (one.link === undefined || dirname(real.path) !== 'usr/bin') await add(real, `usr/bin/${renamed(one.path)}`, { through: one });
    else {
      await add(real, `usr/bin/${renamed(real.path)}`);
      addLink(one, `usr/bin/${renamed(one.path)}`, renamed(real.path));
    }
  }
  const sonames = (origin.dlopen ?? []).filter((one) => !one.includes('/'));
  const paths = [...(origin.dlopen ?? []).filter((one) => one.includes('/')), ...(origin.data ?? [])];
  const kept = select(index, paths, arch).map((found): [Found, string] => [found, place(found.path)]);
  const moved = select(index, origin.beside ?? [], arch).map((found): [Found, string] => [found, folder + found.path.slice('usr'.length)]);
  await addAll([...kept, ...moved]);
  for (const found of select(index, origin.host ?? [], arch)) {
    const to = found.path.startsWith(`${libraries}/`) ? HOST_LIBRARIES + found.path.slice(libraries.length) : found.path;
    if (found.link === undefined) await add(found, to, { relocate: false });
    else addLink(found, to, found.link);
  }

  /** Where a library comes from: the folders that its user names, Debian's own, and any other folder that alone has one. */
  const search = (soname: string, user?: { found: Found; elf: Elf }): Found | undefined => {
    const own = (user?.elf.runpath ?? []).map((path) =>
      inUsr(normalize(path.replaceAll(/\$\{?ORIGIN\}?/g, `/${dirname(user?.found.path ?? '')}`)).replace(/^\//, '')),
    );
    for (const dir of [...own, libraries, 'usr/lib']) {
      const found = index.get(`${dir}/${soname}`);
      if (found !== undefined) return resolveLinks(index, found);
    }
    const elsewhere = [...index.values()].filter(({ path }) => path.startsWith('usr/lib/') && basename(path) === soname);
    return elsewhere.length === 1 && elsewhere[0] !== undefined ? resolveLinks(index, elsewhere[0]) : undefined;
  };
  /** Folder in the component that has a library, which is added where it is missing. */
  const provide = async (soname: string, by: string, user?: { found: Found; elf: Elf }): Promise<string> => {
    const found = search(soname, user);
    if (found === undefined)
      throw new UserError(`${by} needs ${soname}, which no package of its dependencies has`, {
        next: "take it out with '!', or add the package to the definition",
      });
    // What was chosen under this name already must not be loaded a second time from another place.
    const there = [...chosen.values()].find((one) => one.from === found.full && basename(one.to) === soname);
    const to = there?.to ?? `${folder}/${soname}`;
    const taken = chosen.get(to);
    if (taken !== undefined && taken.from !== found.full)
      throw new UserError(`${by} needs ${soname} from ${found.package}; another ${soname} comes from ${taken.package}`);
    await add(found, to, { relocate: soname !== loaderName });
    return dirname(to);
  };

  const runpaths = new Map<string, Set<string>>();
  for (const soname of sonames) await provide(soname, 'dlopen of the definition');
  if (elfFiles.size > 0) {
    await provide(loaderName, name);
    await provide('libgcc_s.so.1', 'libc.so.6'); // glibc loads it when a thread is cancelled
    // A longer path does not fit where Debian's was.
    if (name.length > triplet.length)
      throw new UserError(`'${name}' is too long for the folder of libraries`, {
        next: `name the component with at most ${triplet.length} letters`,
      });
  }
  const missing = new Set(RUNTIME_FILES);
  /** Adds what this file loads by itself, at paths that are compiled in. */
  const addRuntimeFiles = async (user: { found: Found }): Promise<void> => {
    const loaded = { name: basename(user.found.path), imports: await readImports(user.found.full) };
    for (const runtime of [...missing].filter((one) => one.isNeededBy(loaded))) {
      missing.delete(runtime);
      const files = select(index, runtime.files, arch, { optional: true });
      const { from, to } = runtime.moved ?? {};
      const moved = files.length === 0 ? undefined : await to?.(name, files);
      const placeOf = (path: string): string => (from === undefined || moved === undefined ? place(path) : path.replace(from, moved));
      // What the definition has placed itself is there already.
      await addAll(files.map((found): [Found, string] => [found, placeOf(found.path)]));
    }
  };
  // Grows while it is walked: what is added needs libraries itself.
  for (const [to, user] of elfFiles) {
    await addRuntimeFiles(user);
    const folders = new Set([folder]);
    runpaths.set(to, folders);
    for (const soname of user.elf.needed) folders.add(await provide(soname, user.found.path, user));
  }
  const loaderFrom = chosen.get(`${folder}/${loaderName}`);
  if (loaderFrom !== undefined)
    for (const module of HOST_NSS)
      chosen.set(`${folder}/${module}`, { package: loaderFrom.package, to: `${folder}/${module}`, link: `/${HOST_LIBRARIES}/${module}` });

  return [...chosen.values()]
    .map((file): ChosenFile => {
      if (file === loaderFrom) return { ...file, loader: true, asIs: undefined };
      const user = elfFiles.get(file.to);
      if (user === undefined) return file;
      const runpath = [...(runpaths.get(file.to) ?? [])].map((path) => `/${path}`);
      return { ...file, elf: { interpreter: user.elf.interpreter !== undefined, runpath } };
    })
    .toSorted((a, b) => (a.to < b.to ? -1 : 1));
}

/** True for a byte (or the end of the file) that does not go on with the name of a file. */
const endsName = (byte: number | undefined): boolean => byte === undefined || !/[\w.+-]/.test(String.fromCharCode(byte));

/** Replaces all occurrences by as many bytes. */
function replaceAll(bytes: Buffer, { from, to, whole = false }: Edit): void {
  const [old, fresh] = [Buffer.from(from, 'latin1'), Buffer.from(to, 'latin1')];
  if (old.length !== fresh.length) throw new Error(`'${to}' is not as long as '${from}'`);
  for (let at = bytes.indexOf(old); at !== -1; at = bytes.indexOf(old, at + old.length))
    if (!whole || endsName(bytes[at + old.length])) fresh.copy(bytes, at);
}

/** A path as long as this one, which no host has: `/___/__`. */
const blankPath = (path: string): string => path.replaceAll(/[^/]/g, '_');

/** Keeps a loader from all files of the host: of the folders that it searches, one is the component's, and no host has the others. */
function editLoader(bytes: Buffer, name: string, arch: Arch): void {
  const { triplet } = archWords(arch);
  const [own = '', ...others] = loaderFolders(triplet);
  const found = hostPathsOf(bytes, arch);
  if (!found.includes(own) || !LOADER_FILES.every((path) => found.includes(path)))
    throw new UserError('the loader of this C library is not as expected', {
      next: 'look into elf/dl-load.c of its glibc, and correct relocate.ts',
    });
  replaceAll(bytes, { from: text(own), to: text(padded(`/usr/lib/${name}`, own.length)) });
  for (const path of [...LOADER_FILES, ...others]) replaceAll(bytes, { from: text(path), to: text(blankPath(path)) });
}

/** Gives an ELF file its loader (of programs) and the folders of its libraries. */
async function setPaths(file: string, interpreter: string | undefined, runpath: readonly string[], tools: Tools): Promise<void> {
  const loaderOptions = interpreter === undefined ? [] : ['--set-interpreter', interpreter];
  const pathOptions = ['--set-rpath', runpath.join(':')];
  const before = await readFile(file);
  await tools.run('patchelf', [...loaderOptions, ...pathOptions, file]);
  if (!(await hasOverlappingSegments(file))) return;
  // Of a program at a fixed address (ET_EXEC, such as Python) patchelf moves sections in front of the first segment, and counts too few
  // pages where it moves for both at once: one after the other it counts right, the larger first.
  await writeFile(file, before);
  await tools.run('patchelf', [...pathOptions, file]);
  await tools.run('patchelf', [...loaderOptions, file]);
  if (await hasOverlappingSegments(file))
    throw new UserError(`'${basename(file)}' cannot be relocated: patchelf lets its segments overlap`, {
      next: 'leave it out, or compile it as a position-independent program',
    });
}

/** Writes chosen files into a folder, relocated. `name` is the component's; the same files give the same bytes. */
export async function writeRelocated(files: readonly ChosenFile[], dest: string, name: string, arch: Arch, tools: Tools): Promise<void> {
  const { loader } = archWords(arch);
  const folder = `/usr/lib/${name}`;
  const edits = pathEdits(
    name,
    arch,
    files.map(({ to }) => to),
  );
  await mapParallel(
    files,
    async ({ to, from, link, asIs, elf, loader: isLoader }) => {
      const target = join(dest, to);
      await makeFolder(dirname(target));
      if (link !== undefined) return symlink(link, target);
      if (from === undefined) throw new Error(`${to} has no source`);
      const mode = ((await stat(from)).mode & 0o111) === 0 ? 0o644 : 0o755;
      if (asIs === true) {
        await copyFile(from, target);
        return chmod(target, mode);
      }
      const bytes = await readFile(from);
      if (isLoader === true) editLoader(bytes, name, arch);
      else for (const edit of edits) replaceAll(bytes, edit);
      await writeFile(target, bytes);
      await chmod(target, isLoader === true ? 0o755 : mode);
      if (elf === undefined) return;
      await setPaths(target, elf.interpreter ? `${folder}/${basename(loader)}` : undefined, elf.runpath, tools);
    },
    4,
  );
}
