import { basename, dirname, normalize, relative } from 'node:path';
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
import type { DebianOrigin } from '../../definition/types.ts';
import { readElf, readImports, type Elf } from '../../inspect/elf.ts';
import { archWords, type Arch } from '../../model/arch.ts';
import { UserError } from '../../util/errors.ts';
import { RUNTIME_FILES } from './runtime-files.ts';

/** A file of a package, and its path in the component. */
export interface ChosenFile {
  readonly package: string;
  /** Path in the component: `usr/bin/gdb`. */
  readonly to: string;
  /** Package of the link that led to the file, if that is another package. */
  readonly through?: string;
  /** On disk; undefined for a link, which has its target instead. */
  readonly from?: string;
  readonly link?: string;
  /** True for a file that is copied unchanged: a module that the host's own programs load. */
  readonly asIs?: boolean;
  /** For a dynamic ELF file to relocate: whether it has an interpreter, and the folders (absolute) of its libraries. */
  readonly elf?: { readonly interpreter: boolean; readonly runpath: readonly string[] };
  /** True for the loader, whose paths are edited. */
  readonly loader?: boolean;
}

/** Name-service modules of the host that a program's own C library may load: only the host knows its users. */
export const HOST_NSS: readonly string[] = ['usrfiles', 'sss', 'systemd'].map((service) => `libnss_${service}.so.2`);
/** Where Flatcar's C library searches, on both architectures. */
const HOST_LIBRARIES = 'usr/lib64';

/** An ELF file to relocate, with the package file that it comes from. */
interface ElfUser {
  readonly found: Found;
  readonly elf: Elf;
}

/** Chooses files of packages for one component. */
class FileChooser {
  private readonly index: ReadonlyMap<string, Found>;
  private readonly name: string;
  private readonly arch: Arch;
  /** Debian's folder of libraries, and the component's. */
  private readonly libraries: string;
  private readonly folder: string;
  private readonly loaderName: string;
  private readonly chosen = new Map<string, ChosenFile>();
  /** ELF files to relocate, by their path in the component. */
  private readonly elfFiles = new Map<string, ElfUser>();

  constructor(index: ReadonlyMap<string, Found>, name: string, arch: Arch) {
    const { triplet, loader } = archWords(arch);
    this.index = index;
    this.name = name;
    this.arch = arch;
    this.libraries = `usr/lib/${triplet}`;
    this.folder = `usr/lib/${name}`;
    this.loaderName = basename(loader);
  }

  /** The path in the component of a file that keeps its path, unless it is in Debian's folder of libraries. */
  private place(path: string): string {
    return path.startsWith(`${this.libraries}/`) ? this.folder + path.slice(this.libraries.length) : path;
  }

  private async add(found: Found, to: string, { relocate = true, through }: { relocate?: boolean; through?: Found } = {}): Promise<void> {
    if (this.chosen.has(to)) return;
    const linked = through === undefined || through.package === found.package ? undefined : through.package;
    this.chosen.set(to, { package: found.package, through: linked, to, from: found.full, asIs: relocate ? undefined : true });
    const elf = relocate ? await readElf(found.full) : undefined;
    if (elf !== undefined && (elf.interpreter !== undefined || elf.needed.length > 0)) this.elfFiles.set(to, { found, elf });
  }

  private addLink(found: Found, to: string, link: string): void {
    if (!this.chosen.has(to)) this.chosen.set(to, { package: found.package, to, link });
  }

  /** Adds files at their paths. A link leads to the path of its target, which is added unless it is chosen already. */
  private async addAll(files: readonly (readonly [Found, string])[]): Promise<void> {
    for (const [found, to] of files) {
      const target = found.link === undefined ? undefined : targetOf(found);
      const same = files.find(([one]) => one.path === target)?.[1];
      const real = resolveLinks(this.index, found);
      const there = same ?? [...this.chosen.values()].find((one) => real !== undefined && one.from === real.full)?.to;
      if (real === undefined) {
        if (found.link?.startsWith('/etc/alternatives/') === true) continue; // Debian's administrator chooses
        this.addLink(found, to, found.link ?? '');
      } else if (found.link === undefined) await this.add(found, to);
      else if (there !== undefined) this.addLink(found, to, relative(dirname(to), there));
      else await this.add(real, to, { through: found });
    }
  }

  /** Adds the programs of an origin to usr/bin. */
  async addPrograms({ programs, rename = {} }: DebianOrigin): Promise<void> {
    const renamed = (path: string): string => rename[basename(path)] ?? basename(path);
    for (const one of select(this.index, programs.map(programGlob), this.arch)) {
      const real = resolveLinks(this.index, one);
      if (real === undefined)
        throw new UserError(`'${basename(one.path)}' is a link to '${one.link}', which no package has`, {
          next: 'list the program that the link leads to',
        });
      if (one.link === undefined || dirname(real.path) !== 'usr/bin')
        await this.add(real, `usr/bin/${renamed(one.path)}`, { through: one });
      else {
        await this.add(real, `usr/bin/${renamed(real.path)}`);
        this.addLink(one, `usr/bin/${renamed(one.path)}`, renamed(real.path));
      }
    }
  }

  /** Adds data and plugins at their own paths, files that belong beside programs, and modules of the host's programs. */
  async addFiles({ relocate: { plugins = [], data = [], siblings = [], hostModules = [] } = {} }: DebianOrigin): Promise<void> {
    const paths = [...plugins.filter((one) => one.includes('/')), ...data];
    const kept = select(this.index, paths, this.arch).map((found): [Found, string] => [found, this.place(found.path)]);
    const moved = select(this.index, siblings, this.arch).map((found): [Found, string] => [
      found,
      this.folder + found.path.slice('usr'.length),
    ]);
    await this.addAll([...kept, ...moved]);
    for (const found of select(this.index, hostModules, this.arch)) {
      const isLibrary = found.path.startsWith(`${this.libraries}/`);
      const to = isLibrary ? HOST_LIBRARIES + found.path.slice(this.libraries.length) : found.path;
      if (found.link === undefined) await this.add(found, to, { relocate: false });
      else this.addLink(found, to, found.link);
    }
  }

  /** Searches a library in the folders that its user names, in Debian's own, and in any other folder that alone has one. */
  private search(soname: string, user?: ElfUser): Found | undefined {
    const own = (user?.elf.runpath ?? []).map((path) =>
      inUsr(normalize(path.replaceAll(/\$\{?ORIGIN\}?/g, `/${dirname(user?.found.path ?? '')}`)).replace(/^\//, '')),
    );
    for (const dir of [...own, this.libraries, 'usr/lib']) {
      const found = this.index.get(`${dir}/${soname}`);
      if (found !== undefined) return resolveLinks(this.index, found);
    }
    const elsewhere = [...this.index.values()].filter(({ path }) => path.startsWith('usr/lib/') && basename(path) === soname);
    return elsewhere.length === 1 && elsewhere[0] !== undefined ? resolveLinks(this.index, elsewhere[0]) : undefined;
  }

  /** Adds a library unless it is chosen already. Returns its folder in the component. */
  private async provide(soname: string, by: string, user?: ElfUser): Promise<string> {
    const found = this.search(soname, user);
    if (found === undefined)
      throw new UserError(`${by} needs ${soname}, which no package of its dependencies has`, {
        next: "exclude it with '!', or add the package to the definition",
      });
    // A library that was chosen under this name must not be loaded a second time from another path.
    const there = [...this.chosen.values()].find((one) => one.from === found.full && basename(one.to) === soname);
    const to = there?.to ?? `${this.folder}/${soname}`;
    const taken = this.chosen.get(to);
    if (taken !== undefined && taken.from !== found.full)
      throw new UserError(`${by} needs ${soname} from ${found.package}; another ${soname} comes from ${taken.package}`);
    await this.add(found, to, { relocate: soname !== this.loaderName });
    return dirname(to);
  }

  /** Adds the libraries that the definition names, and the C library if any program needs one. */
  async addLibraries(sonames: readonly string[]): Promise<void> {
    for (const soname of sonames) await this.provide(soname, 'relocate.plugins of the definition');
    if (this.elfFiles.size === 0) return;
    await this.provide(this.loaderName, this.name);
    await this.provide('libgcc_s.so.1', 'libc.so.6'); // glibc loads it when a thread is cancelled
    // The component's path replaces Debian's in the bytes of the loader.
    const { triplet } = archWords(this.arch);
    if (this.name.length > triplet.length)
      throw new UserError(`'${this.name}' is too long for the folder of libraries`, {
        next: `use a component name of at most ${triplet.length} letters`,
      });
  }

  /** Adds the files that a library loads by itself, from compiled-in paths. Removes those that it handles from `missing`. */
  private async addRuntimeFiles({ found: user }: ElfUser, missing: Set<(typeof RUNTIME_FILES)[number]>): Promise<void> {
    const loaded = { name: basename(user.path), imports: await readImports(user.full) };
    for (const runtime of [...missing].filter((one) => one.isNeededBy(loaded))) {
      missing.delete(runtime);
      const files = select(this.index, runtime.files, this.arch, { optional: true });
      const { from, to } = runtime.moved ?? {};
      const moved = files.length === 0 ? undefined : await to?.(this.name, files);
      const placeOf = (path: string): string => (from === undefined || moved === undefined ? this.place(path) : path.replace(from, moved));
      await this.addAll(files.map((found): [Found, string] => [found, placeOf(found.path)]));
    }
  }

  /** Adds what the chosen ELF files load. Returns the folders of the libraries of each. */
  async addDependencies(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
    const runpaths = new Map<string, Set<string>>();
    const missing = new Set(RUNTIME_FILES);
    // The map grows during the walk: added libraries need libraries too.
    for (const [to, user] of this.elfFiles) {
      await this.addRuntimeFiles(user, missing);
      const folders = new Set([this.folder]);
      runpaths.set(to, folders);
      for (const soname of user.elf.needed) folders.add(await this.provide(soname, user.found.path, user));
    }
    return runpaths;
  }

  /** The chosen files, sorted by path. `runpaths` has the folders of libraries of each ELF file. */
  result(runpaths: ReadonlyMap<string, ReadonlySet<string>>): ChosenFile[] {
    const loader = this.chosen.get(`${this.folder}/${this.loaderName}`);
    for (const module of loader === undefined ? [] : HOST_NSS) {
      const to = `${this.folder}/${module}`;
      this.chosen.set(to, { package: loader?.package ?? '', to, link: `/${HOST_LIBRARIES}/${module}` });
    }
    return [...this.chosen.values()]
      .map((file): ChosenFile => {
        if (file === loader) return { ...file, loader: true, asIs: undefined };
        const user = this.elfFiles.get(file.to);
        if (user === undefined) return file;
        const runpath = [...(runpaths.get(file.to) ?? [])].map((path) => `/${path}`);
        return { ...file, elf: { interpreter: user.elf.interpreter !== undefined, runpath } };
      })
      .toSorted((a, b) => (a.to < b.to ? -1 : 1));
  }
}

/** Chooses the files of an origin from unpacked packages, with all libraries that they need, and gives each file its path in the component. */
export async function chooseFiles(
  packages: readonly PackageFiles[],
  origin: DebianOrigin,
  name: string,
  arch: Arch,
): Promise<readonly ChosenFile[]> {
  const chooser = new FileChooser(await indexPackages(packages), name, arch);
  await chooser.addPrograms(origin);
  await chooser.addFiles(origin);
  await chooser.addLibraries((origin.relocate?.plugins ?? []).filter((one) => !one.includes('/')));
  return chooser.result(await chooser.addDependencies());
}
