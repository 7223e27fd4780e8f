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
  /** Names of the programs in bin and sbin of the requested packages, and of their dependencies from the same source packages. */
  readonly programs: readonly string[];
  /** The package of each of these programs, and of the programs of all other dependencies, by name of the program. */
  readonly owners: ReadonlyMap<string, string>;
  /** Programs outside usr/bin, by name: those behind a script of the same name that nothing in an image can run, and those in a private `bin`. */
  readonly elsewhere: ReadonlyMap<string, Found>;
  /** Requested packages that only have dependencies. */
  readonly empty: readonly string[];
  /** Upstream's version of each program's package, by name of the program. */
  readonly versions: ReadonlyMap<string, string>;
  /** Interpreters of the programs that are scripts, by name of the program: `/usr/bin/perl`. */
  readonly interpreters: ReadonlyMap<string, string>;
  /** The short description of the first package. */
  readonly summary: string;
  /** Services by name, with /usr/bin in place of sbin, as in an image. */
  readonly services: ReadonlyMap<string, string>;
  /** sysusers.d and tmpfiles.d, by path in the image. */
  readonly settings: ReadonlyMap<string, string>;
  /** Text files below /etc, by path. An image cannot have any. */
  readonly config: ReadonlyMap<string, string>;
  /** The innermost folders below /var in the packages, with their modes. */
  readonly folders: ReadonlyMap<string, string>;
  /** Maintainer scripts with their variables expanded. They do not run for an image. */
  readonly scripts: readonly string[];
  /** Names in `Conflicts` of the packages. */
  readonly conflicts: readonly string[];
  /** All files below usr/ of the packages. */
  readonly paths: ReadonlySet<string>;
  /** SPDX expressions of the machine-readable copyright files, and the names of licences in the other ones. */
  readonly licenses: readonly string[];
  readonly unclear: readonly string[];
}

/** A unit with /usr/bin in place of sbin and bin, as in an image. */
const withUsrBin = (unit: string): string => unit.replaceAll(/(?<![\w/.])(?<!\w-)\/(?:usr\/)?s?bin\//g, '/usr/bin/');

/** Expands a script's variables with constant values, and joins continued lines. */
function expandScript(script: string): string {
  const text = script.replaceAll(/\\\n\s*/g, ' ').replaceAll(/^\s*#.*$/gm, '');
  const values = new Map(
    [...text.matchAll(/^\s*([A-Za-z_]\w*)=(["']?)([\w./:@+-]+)\2\s*(?:;|$)/gm)].map(([, key = '', , value = '']) => [key, value]),
  );
  return text.replaceAll(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced?: string, bare?: string) => values.get(braced ?? bare ?? '') ?? whole);
}

/** A file of a package, with its path in an image. */
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

/** The innermost folders below var/ of a package, with their modes. */
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

/** The content of one package; the keys are those of PackagesFound. */
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
    services: new Map(byName(await texts(/^usr\/lib\/systemd\/system\/[^/]+\.service$/)).map(([unit, text]) => [unit, withUsrBin(text)])),
    settings: new Map(await texts(/^usr\/lib\/(?:sysusers|tmpfiles)\.d\/[^/]+\.conf$/)),
    config: new Map((await texts(/^etc\//)).filter(([, text]) => !text.includes('\0')).map(([path, text]) => [`/${path}`, text])),
    folders: new Map(await varFolders(dir)),
    conflicts: Conflicts.split(',')
      .map((one) => one.trim().replace(/\s.*$/s, ''))
      .filter((one) => one !== ''),
    script: expandScript((await readControlFiles(file)).get('postinst') ?? ''),
    summary: Description.split('\n')[0] ?? '',
    copyright: await readFile(join(dir, 'usr/share/doc', name, 'copyright'), 'utf8').catch(() => ''),
  };
}

/** The interpreter in a script's first line: a path, or a name if `env` searches for it. */
function interpreterOf(line: string): string | undefined {
  const [, path = '', argument = ''] = /^#!\s*(\S+)(?:\s+(\S+))?/.exec(line) ?? [];
  return path === '' ? undefined : basename(path) === 'env' ? argument : path;
}

/** All entries of several maps; the first one wins. */
const merged = (maps: readonly ReadonlyMap<string, string>[]): Map<string, string> => new Map(maps.toReversed().flatMap((map) => [...map]));

/** A package of a closure, unpacked. */
interface Unpacked extends PackageFiles {
  readonly file: string;
  readonly version: string;
}

/** Unpacks packages with their dependencies and what every Debian has, until `use` returns. Only those for x86-64, as a sample of both architectures. */
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
        const file = await archive.fetchPackage(one, { suite, snapshot, arch: 'x86-64', repin: 'run this command again' });
        const dir = join(temp, one.name);
        await unpackPackage(file, dir, { decompressor: (kind) => context.tools.command(kind) });
        return { name: one.name, source: one.source, version: one.version, dir, file };
      },
      4,
    );
    return use(unpacked);
  });
}

/** Programs of packages by name, with their package, and the first line of scripts and of links to scripts. */
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
 * Inspects Debian packages. Settings and services are those of the requested packages and of their dependencies from the same source package
 * (nginx-common for nginx); programs may be in any dependency.
 */
export async function inspectPackages(packages: readonly string[], suite: string, context: UpstreamContext): Promise<PackagesFound> {
  return withUnpacked(packages, suite, context, async (all) => {
    const sources = new Set(all.filter(({ name }) => packages.includes(name)).map(({ source }) => source));
    // Requested packages are first: their file wins if two have the same name.
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

/** Larger folders are not added without a person's decision, in bytes. */
const MOST_DATA = 20 << 20;

/** What the origin of a new extension must contain. */
export interface ProposalRequest {
  readonly packages: readonly string[];
  readonly suite: string;
  /** Names of programs. */
  readonly programs: readonly string[];
  /** Other files that it must contain, as in `data` of `debian()`. */
  readonly data: readonly string[];
  /** The component's name and version. */
  readonly name: string;
  readonly version: string;
}

/**
 * An origin for programs of packages, with everything that they read at run time. A script that nothing in an image can run is replaced by the
 * program behind it, if the packages have it.
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
