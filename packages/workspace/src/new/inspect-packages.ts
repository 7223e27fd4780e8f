import { lstat, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  completeRelocation,
  debian,
  filesBelow,
  indexPackages,
  licenseNames,
  mapParallel,
  packageFields,
  readControlFiles,
  readCopyright,
  resolveClosure,
  resolveLinks,
  RUNTIME_PACKAGES,
  unpackPackage,
  upstreamVersion,
  walk,
  wrappedPrograms,
  type CompletedOrigin,
  type Found,
  type PackageFiles,
} from '@flatcar/core/engine';
import { archiveOf, newestPackages, type UpstreamContext } from '@flatcar/upstream';

/** The content of Debian packages that a new extension is written from. */
export interface PackagesFound {
  /** Programs in bin and sbin of the packages asked for, and of those that they depend on and that are of the same sources, by name. */
  readonly programs: readonly string[];
  /** The packages of these and of all other programs of what they depend on, by name of the program. */
  readonly owners: ReadonlyMap<string, string>;
  /** Programs elsewhere in the packages, by name: those that a script of the same name wraps which nothing can run here, and those of a `bin` of their own. */
  readonly elsewhere: ReadonlyMap<string, Found>;
  /** Packages asked for that contain nothing: they depend on others. */
  readonly empty: readonly string[];
  /** Upstream's versions of the packages that programs come from, by name of the program. */
  readonly versions: ReadonlyMap<string, string>;
  /** What scripts among all programs are run by, by the name of the program: `/usr/bin/perl`. */
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
  /** SPDX expressions of the copyright files, and where one is not for a program to read, the names in it. */
  readonly licenses: readonly string[];
  readonly unclear: readonly string[];
}

const asHere = (unit: string): string => unit.replaceAll(/(?<![\w/.])(?<!\w-)\/(?:usr\/)?s?bin\//g, '/usr/bin/');

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
  readonly isLink: boolean;
}

async function filesOf(dir: string): Promise<File[]> {
  return (await filesBelow(dir)).map(({ path, full, type }) => ({
    path: path.replace(/^(?=s?bin\/|lib\/)/, 'usr/'),
    full,
    isLink: type === 'link',
  }));
}

/** The innermost folders below var/ of a package, with the modes that they have there. */
async function varFolders(dir: string): Promise<[path: string, mode: string][]> {
  const paths = (await walk(join(dir, 'var')).catch(() => [])).flatMap(({ full, type }) => (type === 'dir' ? [full] : []));
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
  const { Description = '', Conflicts = '' } = await packageFields(file, ['Description', 'Conflicts', 'Version']);
  return {
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

/** A package of a closure, unpacked. */
interface Unpacked extends PackageFiles {
  readonly file: string;
  readonly version: string;
}

/** Unpacks packages and all that they depend on, and what every Debian has, for as long as `use` takes; x86-64 ones stand for both architectures. */
async function withUnpacked<T>(
  packages: readonly string[],
  suite: string,
  context: UpstreamContext,
  use: (all: readonly Unpacked[]) => Promise<T>,
): Promise<T> {
  const archive = await archiveOf(context);
  const { snapshot, packages: all } = await newestPackages(suite, 'x86-64', context);
  const always = RUNTIME_PACKAGES.filter((name) => all.some((one) => one.name === name));
  const closure = resolveClosure(all, [...packages, ...always]);
  return context.store.withTemp(async (temp) => {
    const unpacked = await mapParallel(
      closure,
      async (one): Promise<Unpacked> => {
        const file = await archive.fetchPackage(one, { suite, snapshot, arch: 'x86-64', repin: 'run this again' });
        const dir = join(temp, one.name);
        await unpackPackage(file, dir, { decompressor: (kind) => context.tools.command(kind) });
        return { name: one.name, source: one.source, version: one.version, dir, file };
      },
      4,
    );
    return use(unpacked);
  });
}

/** Programs of packages by name, with the package of each and its first line where it is a script or a link to one. */
async function programsIn(packages: readonly Unpacked[]): Promise<Map<string, { owner: string; line: string }>> {
  const index = await indexPackages(packages);
  const found = new Map<string, { owner: string; line: string }>();
  for (const one of index.values()) {
    const name = /^usr\/bin\/([^/]+)$/.exec(one.path)?.[1];
    const real = resolveLinks(index, one);
    if (name === undefined) continue;
    const start = real === undefined ? '' : (await readFile(real.full)).subarray(0, 256).toString('latin1');
    found.set(name, { owner: one.package, line: start.startsWith('#!') ? (start.split('\n')[0] ?? '') : '' });
  }
  return found;
}

/**
 * Looks into Debian's packages themselves. Settings and services are those of the packages asked for, and of those that they depend on and that
 * are of the same sources (nginx-common for nginx); programs may be of any package that they depend on.
 */
export async function inspectPackages(packages: readonly string[], suite: string, context: UpstreamContext): Promise<PackagesFound> {
  return withUnpacked(packages, suite, context, async (all) => {
    const sources = new Set(all.filter(({ name }) => packages.includes(name)).map(({ source }) => source));
    // Those asked for come first: of two files with one name theirs counts.
    const own = all
      .filter(({ name, source }) => packages.includes(name) || sources.has(source))
      .toSorted((a, b) => Number(packages.includes(b.name)) - Number(packages.includes(a.name)));
    const files = await Promise.all(own.map(({ dir }) => filesOf(dir)));
    const found = await Promise.all(own.map(({ name, dir, file }, index) => factsOf(name, dir, file, files[index] ?? [])));
    const programs = await programsIn([...own, ...all.filter((one) => !own.includes(one))]);
    const isOwn = ({ owner }: { owner: string }): boolean => own.some(({ name }) => name === owner);
    const hidden = files.flat().flatMap(({ path }) => /^usr\/lib\/.+\/bin\/([^/]+)$/.exec(path)?.[1] ?? []);
    const scripts = [...programs].flatMap(([name, { line }]) => (line === '' ? [] : [name]));
    const elsewhere = await wrappedPrograms(all, [...scripts, ...hidden.filter((name) => !programs.has(name))]);
    const versionOf = (name: string): string => upstreamVersion(all.find((one) => one.name === name)?.version ?? '');
    const named = found.filter((_, index) => packages.includes(own[index]?.name ?? ''));
    const licenses = named.filter(({ copyright }) => copyright !== '').map(({ copyright }) => readCopyright(copyright));
    return {
      programs: [...programs].flatMap(([name, of]) => (isOwn(of) ? [name] : [])).toSorted(),
      owners: new Map([...programs].map(([name, { owner }]) => [name, owner])),
      elsewhere,
      empty: own.flatMap(({ name }, index) =>
        packages.includes(name) && files[index]?.every(({ path }) => path.startsWith('usr/share/doc/')) === true ? [name] : [],
      ),
      versions: new Map([
        ...[...programs].map(([name, { owner }]) => [name, versionOf(owner)] as const),
        ...[...elsewhere].map(([name, found]) => [name, versionOf(found.package)] as const),
      ]),
      interpreters: new Map(
        [...programs].flatMap(([name, { line }]) => {
          const at = interpreterOf(line);
          return at === undefined ? [] : [[name, at] as const];
        }),
      ),
      summary: named[0]?.summary ?? '',
      services: merged(found.map((one) => one.services)),
      settings: merged(found.map((one) => one.settings)),
      config: merged(found.map((one) => one.config)),
      folders: merged(found.map((one) => one.folders)),
      scripts: found.map(({ script }) => script),
      conflicts: [...new Set(found.flatMap(({ conflicts }) => conflicts))],
      paths: new Set(files.flat().map(({ path }) => path)),
      licenses: licenses.flatMap((one) => ('expression' in one ? [one.expression] : [])),
      unclear: [...new Set(licenses.flatMap((one) => ('text' in one ? licenseNames(one.text) : [])))].toSorted(),
    };
  });
}

/** Larger folders than this are left to a person, in bytes. */
const MOST_DATA = 20 << 20;

/** What an origin is completed for. */
export interface ProposalRequest {
  readonly packages: readonly string[];
  readonly suite: string;
  /** Names of programs. */
  readonly programs: readonly string[];
  /** What is wanted besides, as `data` of `debian()` has it. */
  readonly data: readonly string[];
  /** The component's name and version. */
  readonly name: string;
  readonly version: string;
}

/**
 * An origin for programs of packages with everything that they look for at run time, by the engine's own analysis. A program that is a script
 * which nothing can run here becomes the one that it wraps, where the packages have that.
 */
export async function proposeOrigin(request: ProposalRequest, context: UpstreamContext): Promise<CompletedOrigin> {
  const { packages, suite, programs, data, name, version } = request;
  return withUnpacked(packages, suite, context, async (all) => {
    const wrapped = await wrappedPrograms(all, programs);
    const origin = debian(packages, {
      programs: programs.map((program) => wrapped.get(program)?.path ?? program),
      suite,
    });
    return completeRelocation({ packages: all, origin, also: data, name, version, arch: 'x86-64', limit: MOST_DATA });
  });
}
