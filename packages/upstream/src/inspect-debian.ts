import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { basename, dirname, join, normalize } from 'node:path';
import {
  archWords,
  licenseNames,
  packageFields,
  readControlFiles,
  readCopyright,
  readElf,
  resolveClosure,
  unpackPackage,
  upstreamVersion,
} from '@flatcar/core';
import { archiveOf, newestPackages, type UpstreamContext } from './context.ts';

/** A folder of the packages whose path is compiled into what an image would have: the image is incomplete without it. */
export interface UsedFolder {
  /** The key of `debian()` that adds it: `dlopen` for plugins, `data` for everything else. */
  readonly key: 'data' | 'dlopen';
  readonly glob: string;
  readonly files: number;
  /** In bytes. */
  readonly size: number;
  /** Links in it to what none of these folders has, by path, `{triplet}` for the architecture. */
  readonly dangling: readonly string[];
  /** Libraries that its plugins need, by path of the plugin, `{triplet}` for the architecture. */
  readonly needs: ReadonlyMap<string, readonly string[]>;
  /** Programs that name it; empty where a library of the packages does. */
  readonly programs: readonly string[];
}

/** What packages of Debian contain, as far as a new extension is written from it. */
export interface PackagesFound {
  /** Programs of bin and sbin, by name. */
  readonly programs: readonly string[];
  /** Upstream's versions of the packages that programs come from, by name of the program. */
  readonly versions: ReadonlyMap<string, string>;
  /** What scripts among them are run by, by the name of the program: `/usr/bin/perl`. */
  readonly interpreters: ReadonlyMap<string, string>;
  /** The first package's own short description. */
  readonly summary: string;
  /** Services, with Debian's sbin written as the bin that it becomes here, by name. */
  readonly services: ReadonlyMap<string, string>;
  /** sysusers.d and tmpfiles.d, by path in the image. */
  readonly settings: ReadonlyMap<string, string>;
  /** Texts below /etc, by path: an image has none. */
  readonly config: ReadonlyMap<string, string>;
  /** Folders below /var that the packages bring, the innermost ones, with their modes. */
  readonly folders: ReadonlyMap<string, string>;
  /** Maintainer scripts, with their variables filled in: they do not run here. */
  readonly scripts: readonly string[];
  /** Names in `Conflicts` of the packages. */
  readonly conflicts: readonly string[];
  /** All files below usr/ of the packages. */
  readonly paths: ReadonlySet<string>;
  readonly used: readonly UsedFolder[];
  /** SPDX expressions of the copyright files, and where one is not for a program to read, the names in it. */
  readonly licenses: readonly string[];
  readonly unclear: readonly string[];
}

const asHere = (unit: string): string => unit.replaceAll(/(?<![\w/.])(?<!\w-)\/(?:usr\/)?s?bin\//g, '/usr/bin/');

/** What every package has, or what only Debian's own tools read. */
const NOT_USED =
  /^usr\/(?:share\/(?:doc|doc-base|man|info|lintian|locale|bug|bash-completion|fish|zsh\/(?:vendor|site)|applications|icons|pixmaps|menu|metainfo|polkit-1|dbus-1|apport|debconf|perl5?|python3|examples|help|locales|common-licenses|keyrings|gettext|aclocal|pkgconfig|mime|mime-info|terminfo)(?:\/|$)|lib\/(?:systemd|sysusers\.d|tmpfiles\.d|sysctl\.d|udev|modules-load\.d|binfmt\.d|NetworkManager|python3|pkgconfig|debug|debian|debug|locale|mime|firmware|environment\.d|\.build-id)(?:\/|$))/;

/** The folder by which a file is asked for: that of the package below share, libexec and lib. */
function folderOf(path: string, triplet: string): string | undefined {
  if (NOT_USED.test(path)) return undefined;
  const parts = path.split('/');
  const depth = path.startsWith(`usr/lib/${triplet}/`) ? 4 : /^usr\/(?:share|libexec|lib)\//.test(path) ? 3 : 0;
  return depth === 0 || parts.length <= depth ? undefined : parts.slice(0, depth).join('/');
}

/** Fills a script's plain variables in, and joins lines that go on. */
function filled(script: string): string {
  const text = script.replaceAll(/\\\n\s*/g, ' ').replaceAll(/^\s*#.*$/gm, '');
  const values = new Map(
    [...text.matchAll(/^\s*([A-Za-z_]\w*)=(["']?)([\w./:@+-]+)\2\s*(?:;|$)/gm)].map(([, key = '', , value = '']) => [key, value]),
  );
  return text.replaceAll(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced?: string, bare?: string) => values.get(braced ?? bare ?? '') ?? whole);
}

/** Files of a package below usr/, by their path in an image. */
interface File {
  readonly path: string;
  readonly full: string;
  readonly size: number;
  readonly isLink: boolean;
  /** Where a link leads, as it says it. */
  readonly link: string | undefined;
}

async function filesOf(dir: string): Promise<File[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
  return Promise.all(
    files.map(async (full) => {
      const path = full.slice(dir.length + 1).replace(/^(?=s?bin\/|lib\/)/, 'usr/');
      const about = await lstat(full);
      const isLink = about.isSymbolicLink();
      return { path, full, size: about.size, isLink, link: isLink ? await readlink(full) : undefined };
    }),
  );
}

/** Which folders of the packages are named by the programs and libraries in them. */
async function usedFolders(files: readonly File[], triplet: string): Promise<UsedFolder[]> {
  const folders = Map.groupBy(
    files.filter(({ path }) => folderOf(path, triplet) !== undefined),
    ({ path }) => folderOf(path, triplet) ?? '',
  );
  const readers = files.filter(({ path, isLink }) => !isLink && /^usr\/s?bin\/|\.so(?:\.[\d.]+)?$/.test(path) && !NOT_USED.test(path));
  const named = new Map<string, Set<string>>();
  for (const { path, full } of readers) {
    const bytes = (await readFile(full)).toString('latin1');
    for (const folder of folders.keys()) {
      if (path.startsWith(`${folder}/`) || !new RegExp(`/${RegExp.escape(folder)}(?![\\w.-])`).test(bytes)) continue;
      const program = /^usr\/s?bin\/([^/]+)$/.exec(path)?.[1];
      named.set(folder, (named.get(folder) ?? new Set()).add(program ?? ''));
    }
  }
  const found = [...named]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(async ([folder, programs]): Promise<UsedFolder> => {
      const of = folders.get(folder) ?? [];
      const plugins = of.filter(({ path, isLink }) => path.endsWith('.so') && !isLink);
      const needs = plugins.map(async ({ path, full }): Promise<[string, readonly string[]]> => [
        path.replace(triplet, '{triplet}'),
        (await readElf(full))?.needed ?? [],
      ]);
      const dangling = of.filter(({ path, link }) => {
        const target = link === undefined ? undefined : normalize(link.startsWith('/') ? link.slice(1) : join(dirname(path), link));
        const inside = [...named.keys()].some((one) => target === one || target?.startsWith(`${one}/`) === true);
        return target !== undefined && !(inside && files.some((file) => file.path === target || file.path.startsWith(`${target}/`)));
      });
      return {
        dangling: dangling.map(({ path }) => path.replace(triplet, '{triplet}')),
        key: of.some(({ path }) => path.endsWith('.so')) ? 'dlopen' : 'data',
        glob: `${folder.replace(triplet, '{triplet}')}/**`,
        files: of.length,
        size: of.reduce((sum, { size }) => sum + size, 0),
        needs: new Map(await Promise.all(needs)),
        programs: programs.has('') ? [] : [...programs].toSorted(),
      };
    });
  return Promise.all(found);
}

/**
 * Plugins of folders that need a library of no package that the asked ones depend on, each with that library: Debian recommends such
 * packages only (libncursesw6 for zsh's module of curses). All packages are fetched for it, which pinning them needs as well.
 */
export async function brokenPlugins(
  folders: readonly UsedFolder[],
  packages: readonly string[],
  suite: string,
  context: UpstreamContext,
): Promise<{ readonly plugin: string; readonly library: string }[]> {
  const needs = folders.flatMap((folder) => [...folder.needs]);
  if (needs.length === 0) return [];
  const archive = await archiveOf(context);
  const { snapshot, packages: all } = await newestPackages(suite, 'x86-64', context);
  const there = new Set(needs.map(([plugin]) => basename(plugin)));
  for (const one of resolveClosure(all, packages)) {
    const file = await archive.fetchPackage(one, { suite, snapshot, arch: 'x86-64', repin: 'run this again' });
    await context.store.withTemp(async (temp) => {
      await unpackPackage(file, join(temp, 'files'), { decompressor: (kind) => context.tools.command(kind) });
      for (const { path } of await filesOf(join(temp, 'files'))) if (/\.so(?:\.|$)/.test(path)) there.add(basename(path));
    });
  }
  return needs.flatMap(([plugin, libraries]) => libraries.filter((library) => !there.has(library)).map((library) => ({ plugin, library })));
}

/** The innermost folders below var/ of a package, with the modes that they have there. */
async function varFolders(dir: string): Promise<[path: string, mode: string][]> {
  const entries = (await readdir(join(dir, 'var'), { recursive: true, withFileTypes: true }).catch(() => [])).filter((entry) =>
    entry.isDirectory(),
  );
  const paths = entries.map((entry) => join(entry.parentPath, entry.name));
  const inner = paths.filter(
    (path) => !paths.some((other) => other.startsWith(`${path}/`)) && !/\/var\/(?:lib|log|cache|spool|opt|run)$/.test(path),
  );
  return Promise.all(
    inner.map(async (path): Promise<[string, string]> => [
      path.slice(dir.length),
      ((await lstat(path)).mode & 0o7777).toString(8).padStart(4, '0'),
    ]),
  );
}

/** What one package contains; the keys are those of PackagesFound. */
interface PackageFacts extends Pick<PackagesFound, 'services' | 'settings' | 'config' | 'folders' | 'conflicts'> {
  /** First lines of programs, by name. */
  readonly programs: ReadonlyMap<string, string>;
  readonly script: string;
  readonly summary: string;
  readonly copyright: string;
}

async function factsOf(name: string, dir: string, file: string, files: readonly File[]): Promise<PackageFacts> {
  const texts = async (pattern: RegExp): Promise<[path: string, text: string][]> => {
    const found = files.filter(({ path, isLink }) => pattern.test(path) && !isLink);
    return Promise.all(found.map(async ({ path, full }): Promise<[string, string]> => [path, await readFile(full, 'utf8')]));
  };
  const byName = (of: readonly [string, string][]): [string, string][] => of.map(([path, text]) => [basename(path), text]);
  const links = files
    .filter(({ path, isLink }) => isLink && /^usr\/s?bin\/[^/]+$/.test(path))
    .map(({ path }): [string, string] => [path, '']);
  const programs = [...links, ...(await texts(/^usr\/s?bin\/[^/]+$/))];
  const { Description = '', Conflicts = '' } = await packageFields(file, ['Description', 'Conflicts', 'Version']);
  return {
    programs: new Map(byName(programs).map(([program, text]) => [program, text.split('\n')[0] ?? ''])),
    services: new Map(byName(await texts(/^usr\/lib\/systemd\/system\/[^/]+\.service$/)).map(([unit, text]) => [unit, asHere(text)])),
    settings: new Map(await texts(/^usr\/lib\/(?:sysusers|tmpfiles)\.d\/[^/]+\.conf$/)),
    config: new Map((await texts(/^etc\//)).filter(([, text]) => !text.includes('\0')).map(([path, text]) => [`/${path}`, text])),
    folders: new Map(await varFolders(dir)),
    conflicts: Conflicts.split(',')
      .map((one) => one.trim().replace(/\s.*$/s, ''))
      .filter((one) => one !== ''),
    script: filled((await readControlFiles(file)).get('postinst') ?? ''),
    summary: Description.split('\n')[0] ?? '',
    copyright: await readFile(join(dir, 'usr/share/doc', name, 'copyright'), 'utf8').catch(() => ''),
  };
}

/** The interpreter that a script's first line names, as a path, or as a name where `env` looks for it. */
function interpreterOf(line: string): string | undefined {
  const [, path = '', argument = ''] = /^#!\s*(\S+)(?:\s+(\S+))?/.exec(line) ?? [];
  return path === '' ? undefined : basename(path) === 'env' ? argument : path;
}

/** All entries of several maps; of two with one key the first. */
const merged = (maps: readonly ReadonlyMap<string, string>[]): Map<string, string> => new Map(maps.toReversed().flatMap((map) => [...map]));

/**
 * Looks into Debian's packages themselves; the x86-64 ones stand for both architectures. Of what they depend on only the packages of the
 * same sources are read, for the folders that programs look into (zsh-common for zsh).
 */
export async function inspectDebian(packages: readonly string[], suite: string, context: UpstreamContext): Promise<PackagesFound> {
  const archive = await archiveOf(context);
  const { snapshot, packages: all } = await newestPackages(suite, 'x86-64', context);
  const closure = resolveClosure(all, packages);
  const sources = new Set(closure.filter(({ name }) => packages.includes(name)).map(({ source }) => source));
  const wanted = closure.filter(({ name, source }) => packages.includes(name) || sources.has(source));
  return context.store.withTemp(async (temp) => {
    const files: File[] = [];
    const facts = new Map<string, PackageFacts>();
    for (const one of wanted) {
      const file = await archive.fetchPackage(one, { suite, snapshot, arch: 'x86-64', repin: 'run this again' });
      const dir = join(temp, one.name);
      await unpackPackage(file, dir, { decompressor: (kind) => context.tools.command(kind) });
      const own = await filesOf(dir);
      files.push(...own);
      if (packages.includes(one.name)) facts.set(one.name, await factsOf(one.name, dir, file, own));
    }
    const found = packages.flatMap((name) => facts.get(name) ?? []);
    const programs = merged(found.map((one) => one.programs));
    const licenses = found.filter(({ copyright }) => copyright !== '').map(({ copyright }) => readCopyright(copyright));
    return {
      programs: [...programs.keys()].toSorted(),
      versions: new Map(
        wanted.flatMap(({ name, version }) =>
          [...(facts.get(name)?.programs.keys() ?? [])].map((program): [string, string] => [program, upstreamVersion(version)]),
        ),
      ),
      interpreters: new Map(
        [...programs].flatMap(([name, line]) => {
          const at = interpreterOf(line);
          return at === undefined ? [] : [[name, at] as const];
        }),
      ),
      summary: found[0]?.summary ?? '',
      services: merged(found.map((one) => one.services)),
      settings: merged(found.map((one) => one.settings)),
      config: merged(found.map((one) => one.config)),
      folders: merged(found.map((one) => one.folders)),
      scripts: found.map(({ script }) => script),
      conflicts: [...new Set(found.flatMap(({ conflicts }) => conflicts))],
      paths: new Set(files.map(({ path }) => path)),
      used: await usedFolders(files, archWords('x86-64').triplet),
      licenses: licenses.flatMap((one) => ('expression' in one ? [one.expression] : [])),
      unclear: [...new Set(licenses.flatMap((one) => ('text' in one ? licenseNames(one.text) : [])))].toSorted(),
    };
  });
}
