import { readFile, readlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import * as v from 'valibot';
import { archWords } from '../../model/arch.ts';
import { relocationOmissions } from './compiled-in.ts';
import type { Omission } from '../../inspect/omission.ts';
import { licenseNames, readCopyright } from './copyright.ts';
import { openArchive, type Archive } from '../../debian/archive.ts';
import { packageFields } from '../../debian/packages.ts';
import { upstreamVersion } from '../../debian/version.ts';
import { resolveClosure } from '../../debian/dependencies.ts';
import { lineOfPath, parseJson } from '../../util/json.ts';
import { UserError } from '../../util/errors.ts';
import type { Component, DebianOrigin, PinnedComponent } from '../../definition/types.ts';
import { locatorText, packageNameOf, parseLocator, type PackageName } from '../../model/locator.ts';
import type { PackageFiles } from '../../debian/package-index.ts';
import { mapParallel } from '../../util/parallel.ts';
import { chooseFiles, type ChosenFile } from './choose.ts';
import { writeRelocated } from './relocate.ts';
import { RUNTIME_PACKAGES } from './runtime-files.ts';
import { digestOf } from '../../util/digest.ts';
import type { Store } from '../../store/store.ts';
import { openTools, type Tools } from '../../tools/tools.ts';
import type { Arch } from '../../model/arch.ts';
import type { EmbeddedModule, Material, SourcePackage } from '../../model/payload.ts';
import { unpackPackage } from '../../store/unpack.ts';
import {
  BUILD_AGAIN,
  OriginPackageSchema,
  pinnedMaterial,
  type DescribeContext,
  type OriginContext,
  type OriginDescription,
  type OriginResult,
} from '../origin.ts';

/** Raised when the same inputs must give other bytes. */
const BUILD_FORMAT = 4;

/** The record beside the files of a result of the store; see OriginResult. */
const Omissions = v.array(
  v.strictObject({ path: v.string(), at: v.string(), wantedBy: v.string(), package: v.string(), line: v.string() }),
);
const RecordSchema = v.strictObject({ packages: v.array(OriginPackageSchema), omissions: Omissions });

/** Raised when the record of the same files must change. */
const RECORD_FORMAT = 3;

/** The package of a locator; none for the locator of something else. */
const packageIn = (text: string): PackageName[] => {
  const locator = parseLocator(text);
  return locator.kind === 'package' ? [packageNameOf(locator.path)] : [];
};

/** Path below a mirror of what has a locator of the archive. */
function pathOf(text: string): string {
  const locator = parseLocator(text);
  if (!('path' in locator)) throw new Error(`'${text}' is not located in the Debian archive`);
  return locator.path;
}

/** The version of an extension that is dated by its lock: its packages have versions of their own. */
const DATED = /^20\d\d\.\d{1,2}\.\d{1,2}$/;

/**
 * Throws a UserError if the upstream version of the origin's first package differs from the component's version. The component is named for its
 * first package; the check does not apply to a dated component. `locators` are those of the component's packages.
 */
export function assertPackageVersion(
  { packages }: DebianOrigin,
  { name, version }: Component,
  locators: readonly string[],
  about: { readonly where: string; readonly next: (version: string) => string },
): void {
  const [lead = ''] = packages;
  const found = locators.flatMap(packageIn).find((one) => one.name === lead);
  if (found === undefined || DATED.test(version)) return; // nothing of that package is in the image
  const actual = upstreamVersion(found.version);
  if (actual === version) return;
  throw new UserError(`${name} ${version} contains the package ${lead} ${found.version}, which is version ${actual}`, {
    where: about.where,
    next: about.next(actual),
  });
}

/** The pinned packages of an architecture. A lock has at most one component of this origin, and all packages belong to it. */
function pinnedPackages(pinned: PinnedComponent, arch: Arch): Material[] {
  const arches = new Set([archWords(arch).debian, 'all']);
  return Object.keys(pinned.pin.bytes)
    .filter((locator) => packageIn(locator).some((one) => arches.has(one.arch)))
    .map((locator) => pinnedMaterial(pinned, locator));
}

interface Unpacked extends PackageFiles {
  readonly file: string;
  readonly locator: string;
}

/** Fetches and unpacks packages, each into a folder of its own. */
async function unpackAll<T extends { readonly locator: string }>(
  packages: readonly T[],
  fetch: (one: T) => Promise<string>,
  temp: string,
  tools: Tools,
): Promise<Unpacked[]> {
  return mapParallel(
    packages,
    async (one) => {
      const file = await fetch(one);
      const { name, source } = packageNameOf(one.locator);
      const dir = join(temp, name);
      await unpackPackage(file, dir, { decompressor: (kind) => tools.command(kind) });
      return { name, dir, source, file, locator: one.locator };
    },
    4,
  );
}

/**
 * The package that contains the copyright file of a package. Its folder in usr/share/doc, or the file in it, may be a link to that of
 * another package of the same source (Debian policy 12.5), and so on.
 */
async function copyrightOwner(name: string, unpacked: readonly Unpacked[]): Promise<string> {
  const seen = new Set<string>();
  let at = name;
  while (!seen.has(at)) {
    seen.add(at);
    const doc = join(unpacked.find((one) => one.name === at)?.dir ?? '', 'usr/share/doc', at);
    const folder = await readlink(doc).catch(() => undefined);
    const file = await readlink(join(doc, 'copyright')).catch(() => undefined);
    at = folder === undefined ? (file === undefined ? at : basename(dirname(file))) : basename(folder);
  }
  return at;
}

/** Names of the packages that an image needs: those of its files, of links to them, and of their copyright files. */
async function usedPackages(unpacked: readonly Unpacked[], chosen: readonly ChosenFile[]): Promise<Set<string>> {
  const owners = await Promise.all([...new Set(chosen.map((file) => file.package))].map((name) => copyrightOwner(name, unpacked)));
  return new Set([...chosen.flatMap((file) => [file.package, file.through ?? file.package]), ...owners]);
}

/** Fields that list the sources compiled into a package's programs: of GCC and Go, of Go since 2024, and of Rust (Debian policy 7.8). */
const COMPILED_IN = ['Built-Using', 'Static-Built-Using', 'X-Cargo-Built-Using'] as const;

/** A source package as fields name it: `glibc (2.41-12)`, or without a version when that is the binary package's. */
function sourcePackage(field: string, version: string): SourcePackage {
  const [, name = field, own = version] = /^(\S+)(?:\s+\(=?\s*(\S+?)\))?$/.exec(field.trim()) ?? [];
  return { name, version: own };
}

/** All source packages of a field such as `golang-1.24 (= 1.24.4-1), rustc (= 1.85.0+dfsg3-1)`. */
const sourcePackages = (field: string): SourcePackage[] =>
  field
    .split(',')
    .filter((one) => one.trim() !== '')
    .map((one) => sourcePackage(one, ''));

/** Debian's suites by the number that scanners know them by (`distro` of a package URL). */
const NUMBERS: Readonly<Record<string, number>> = { bullseye: 11, bookworm: 12, trixie: 13, forky: 14 };
const distroOf = (suite: string): string => `debian-${NUMBERS[suite] ?? suite}`;

/** The packages that an image has files of, for its SBOM. */
async function describePackages(unpacked: readonly Unpacked[], chosen: readonly ChosenFile[], suite: string): Promise<EmbeddedModule[]> {
  const used = unpacked.filter(({ name }) => chosen.some((file) => file.package === name));
  return mapParallel(used, async ({ name, dir, file }) => {
    const fields = await packageFields(file, ['Version', 'Architecture', 'Source', ...COMPILED_IN]);
    const { Version: version = '', Architecture: arch = '', Source: source = name } = fields;
    const owner = await copyrightOwner(name, unpacked);
    const doc = join(unpacked.find((one) => one.name === owner)?.dir ?? dir, 'usr/share/doc', owner, 'copyright');
    const text = await readFile(doc, 'utf8').catch(() => undefined);
    return {
      type: 'deb',
      name: `debian/${name}`,
      version,
      qualifiers: { arch, distro: distroOf(suite) },
      paths: chosen.filter((one) => one.package === name).map(({ to }) => to),
      source: sourcePackage(source, version),
      builtUsing: COMPILED_IN.flatMap((field) => sourcePackages(fields[field] ?? '')),
      license: text === undefined ? undefined : readCopyright(text),
    };
  });
}

/** A component's packages in a snapshot of the archive. */
export interface ResolvedPackages {
  readonly snapshot: string;
  /** The packages that the definition names, those that the image has files of, and those that have what the image lacks: lint reads these. */
  readonly packages: readonly Material[];
  /** Licences of the named packages, as SPDX expressions from their copyright files. */
  readonly licenses: readonly string[];
  /** Names of licences in the copyright files that SPDX does not have. */
  readonly unclear: readonly string[];
  /** What programs name by compiled-in paths and the image lacks, each with the line that adds it. */
  readonly omissions: readonly Omission[];
}

/** Resolves the packages of a component's definition by the archive's signed index. */
export async function resolvePackages(
  origin: DebianOrigin,
  component: Component,
  arch: Arch,
  { store, archive }: { store: Store; archive: Archive },
): Promise<ResolvedPackages> {
  const { snapshot, packages } = await archive.newest(origin.suite, arch);
  const always = RUNTIME_PACKAGES.filter((name) => packages.some((one) => one.name === name));
  const wanted = resolveClosure(packages, [...origin.packages, ...always]).map(({ path, sha256, size }) => ({
    locator: locatorText({ kind: 'package', path }),
    path,
    sha256,
    size,
  }));
  return store.withTemp(async (temp) => {
    const repin = 'run this again';
    const unpacked = await unpackAll(
      wanted,
      (one) => archive.fetchPackage(one, { suite: origin.suite, snapshot, arch, repin }),
      temp,
      openTools(store),
    );
    const chosen = await chooseFiles(unpacked, origin, component.name, arch);
    const omissions = await relocationOmissions({ packages: unpacked, origin, chosen, name: component.name, arch });
    // The packages that the definition names are always pinned: python3 has its version, and its programs are in python3-minimal.
    const used = (await usedPackages(unpacked, chosen)).union(new Set([...omissions.map((one) => one.package), ...origin.packages]));
    const own = (await describePackages(unpacked, chosen, origin.suite)).filter(({ name }) => origin.packages.includes(basename(name)));
    return {
      snapshot,
      packages: wanted
        .filter((_, index) => used.has(unpacked[index]?.name ?? ''))
        .map(({ locator, sha256, size }) => ({ locator, sha256, size, proof: 'Debian archive index, signed by the archive key' })),
      licenses: own.flatMap(({ license }) => (license !== undefined && 'expression' in license ? [license.expression] : [])),
      unclear: own.flatMap(({ license }) => (license !== undefined && 'text' in license ? licenseNames(license.text) : [])),
      omissions,
    };
  });
}

/** The inputs of relocated programs: all packages that are pinned for them, and the definition. */
export async function describeDebian(origin: DebianOrigin, context: DescribeContext): Promise<OriginDescription> {
  const { component, dir, arch, records } = context;
  const materials = pinnedPackages(context, arch);
  if (materials.length === 0)
    throw new UserError(`${component.name} ${component.version} has no pinned packages for ${arch}`, {
      where: dir,
      next: 'run flatcar-ext pin; nothing is fetched without a digest',
    });
  const pinned = new Set(materials.map(({ locator }) => packageNameOf(locator).name));
  const missing = origin.packages.filter((name) => !pinned.has(name));
  if (missing.length > 0) {
    const file = join(dir, 'pins.json');
    const text = await readFile(file, 'utf8').catch(() => '{}');
    throw new UserError(`${component.name} ${component.version} has no pin of the package ${missing.join(', ')} for ${arch}`, {
      where: `${file}:${lineOfPath(text, [component.version, 'bytes'])}`,
      next: 'restore it from git, or run flatcar-ext pin; nothing is fetched without a digest',
    });
  }
  assertPackageVersion(
    origin,
    component,
    materials.map(({ locator }) => locator),
    {
      where: join(dir, 'pins.json'),
      next: (actual) => `flatcar-ext pin ${component.lock === undefined ? basename(dir) : 'NAME'}@${actual} pins it under its own version`,
    },
  );
  const { kind: _, packages: asked, ...parameters } = origin;
  return {
    materials,
    format: `debian ${BUILD_FORMAT}`,
    parameters: Object.fromEntries(
      Object.entries({ packages: asked, ...parameters }).map(([name, value]) => [name, JSON.stringify(value)]),
    ),
    tools: await records.tool('patchelf'),
  };
}

/**
 * Programs from Debian's packages, relocated: fetched by their pins, unpacked and edited without root, the same bytes on every
 * run and for either architecture. Pinning resolved which packages are needed.
 */
export async function buildDebian(origin: DebianOrigin, context: OriginContext): Promise<OriginResult> {
  const { component, dir, pin, arch, store, tools, report } = context;
  const description = await describeDebian(origin, context);
  const { materials: pinned, tools: patchelf } = description;
  const key = digestOf({
    number: BUILD_FORMAT,
    record: RECORD_FORMAT,
    name: component.name,
    origin,
    arch,
    packages: pinned.map(({ sha256 }) => sha256).toSorted(),
    tools: patchelf.map(({ sha256 }) => sha256),
  });
  const result = await store.result('debian', key, (fresh) =>
    store.withTemp(async (temp) => {
      const archive = openArchive(store, report);
      const extension = component.lock === undefined ? basename(dir) : 'of each extension that has it';
      const at = {
        suite: origin.suite,
        arch,
        repin: `flatcar-ext pin ${extension} --revision`,
        snapshot: pin.snapshot,
      };
      report({ type: 'step', text: `fetching ${pinned.length} packages of ${component.name} ${component.version} for ${arch}` });
      const unpacked = await unpackAll(
        pinned,
        ({ locator, sha256, size }) => archive.fetchPackage({ path: pathOf(locator), sha256, size }, at),
        temp,
        tools,
      );
      report({ type: 'step', text: `relocating ${component.name} ${component.version} for ${arch}` });
      const chosen = await chooseFiles(unpacked, origin, component.name, arch).catch((cause: unknown) => {
        if (!(cause instanceof UserError)) throw cause;
        // Either the definition is wrong, or somebody removed a package from the lock: the two look the same here.
        throw new UserError(`${cause.message} (${pinned.length} packages are pinned for ${arch})`, {
          where: cause.where ?? join(dir, 'pins.json'),
          next: `${cause.next ?? 'correct the definition'}; if a pin was removed from pins.json, run ${at.repin}`,
          cause,
        });
      });
      await writeRelocated(chosen, join(fresh, 'files'), component.name, arch, tools);
      const packages = await describePackages(unpacked, chosen, origin.suite);
      const omissions = await relocationOmissions({ packages: unpacked, origin, chosen, name: component.name, arch });
      await writeFile(join(fresh, 'record.json'), JSON.stringify({ packages, omissions }));
    }),
  );
  const where = join(result.dir, 'record.json');
  const record = parseJson(RecordSchema, await readFile(where, 'utf8'), { what: 'record of packages', where, next: BUILD_AGAIN });
  return { dir: join(result.dir, 'files'), ...description, ...record };
}
