import { readFile, readlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import * as v from 'valibot';
import { archWords } from '../../model/arch.ts';
import { relocationOmissions } from './compiled-in.ts';
import type { Omission } from '../../inspect/omission.ts';
import { licenseNames, readCopyright } from './copyright.ts';
import { openArchive, type Archive } from '../../debian/archive.ts';
import { packageFields, type PinnedPackage } from '../../debian/packages.ts';
import { upstreamVersion } from '../../debian/version.ts';
import { resolveClosure } from '../../debian/dependencies.ts';
import { lineOfPath, parseJson } from '../../util/json.ts';
import { UserError } from '../../util/errors.ts';
import type { Component, DebianOrigin } from '../../definition/types.ts';
import type { PackageFiles } from '../../debian/package-index.ts';
import { mapParallel } from '../../util/parallel.ts';
import type { PinnedVersion } from '../../definition/pins.ts';
import { chooseFiles, writeRelocated, type ChosenFile } from './relocate.ts';
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
  type DescribeContext,
  type OriginContext,
  type OriginDescription,
  type OriginResult,
} from '../origin.ts';

/** Raised when the same inputs are to give other bytes. */
const BUILD_FORMAT = 4;

/** What a result of the store has beside its files: see OriginResult. */
const Omissions = v.array(
  v.strictObject({ path: v.string(), at: v.string(), wantedBy: v.string(), package: v.string(), line: v.string() }),
);
const RecordSchema = v.strictObject({ packages: v.array(OriginPackageSchema), omissions: Omissions });

/** Raised when the record of the same files is to say something else. */
const RECORD_FORMAT = 2;

/** The key of a package's pin: its path below the mirror, which has name, version and architecture. */
export function packageLocator({ path }: Pick<PinnedPackage, 'path'>): string {
  return `debian:${path}`;
}

/** True for the pin of a binary package; sources of the same archive are pinned under `debian:` too. */
export function isPackageLocator(locator: string): boolean {
  return /^debian:pool\/.+\.deb$/.test(locator);
}

/** The version of an extension that is dated by its lock: its packages have versions of their own. */
const DATED = /^20\d\d\.\d{1,2}\.\d{1,2}$/;

/**
 * Throws when the first package that an origin names is another version of upstream's than the component claims to be. The first package
 * is the one that the component is named for; a dated component has none. `locators` are those of the packages that it is made of.
 */
export function assertPackageVersion(
  { packages }: DebianOrigin,
  { name, version }: Component,
  locators: readonly string[],
  about: { readonly where: string; readonly next: (version: string) => string },
): void {
  const [lead = ''] = packages;
  const locator = locators.find((one) => isPackageLocator(one) && basename(one).startsWith(`${lead}_`));
  if (locator === undefined || DATED.test(version)) return; // nothing of that package is in the image
  const found = decodeURIComponent(basename(locator).split('_')[1] ?? '');
  const actual = upstreamVersion(found);
  if (actual === version) return;
  throw new UserError(`${name} ${version} is made of the package ${lead} ${found}, which is version ${actual}`, {
    where: about.where,
    next: about.next(actual),
  });
}

/** What a lock pins of packages for an architecture; all of them belong to its one component of this origin. */
function pinnedPackages(pin: PinnedVersion, arch: Arch): Material[] {
  const ending = new RegExp(`_(?:${archWords(arch).debian}|all)\\.deb$`);
  return Object.entries(pin.bytes)
    .filter(([locator]) => isPackageLocator(locator) && ending.test(locator))
    .map(([locator, { sha256, size, proof }]) => ({ locator, sha256, proof, ...(size === undefined ? {} : { size }) }));
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
      const [name = ''] = basename(one.locator).split('_');
      const dir = join(temp, name);
      await unpackPackage(file, dir, { decompressor: (kind) => tools.command(kind) });
      // pool/main/<letter>/<source>/<package>_<version>_<arch>.deb (wiki.debian.org/DebianRepository/Format)
      return { name, dir, source: basename(dirname(one.locator)), file, locator: one.locator };
    },
    4,
  );
}

/**
 * The package that has the copyright file of another: the folder in usr/share/doc, or the file in it, may be a link to that of
 * another package of the same source (Debian policy 12.5), which may be one too.
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

/** Names of the packages that an image needs: those of its files, of links on the way to them, and of their copyright files. */
async function usedPackages(unpacked: readonly Unpacked[], chosen: readonly ChosenFile[]): Promise<Set<string>> {
  const owners = await Promise.all([...new Set(chosen.map((file) => file.package))].map((name) => copyrightOwner(name, unpacked)));
  return new Set([...chosen.flatMap((file) => [file.package, file.through ?? file.package]), ...owners]);
}

/** Fields with the source packages of what was compiled into a package's programs: GCC and Go, Go since 2024, Rust (Debian policy 7.8). */
const COMPILED_IN = ['Built-Using', 'Static-Built-Using', 'X-Cargo-Built-Using'] as const;

/** A source package as a field names it: `glibc (2.41-12)`, or without a version that is the binary package's own. */
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

/** What the packages are of which an image has files. */
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
      ...(text === undefined ? {} : { license: readCopyright(text) }),
    };
  });
}

/** What a component's packages are at one time. */
export interface ResolvedPackages {
  readonly snapshot: string;
  /** Those that the definition names, those that files of the image come from, and those that have what the image was not given: lint reads it from them. */
  readonly packages: readonly Material[];
  /** Licences that the copyright files of the named packages tell as SPDX has them. */
  readonly licenses: readonly string[];
  /** The words of the copyright files that SPDX does not have. */
  readonly unclear: readonly string[];
  /** What programs name by compiled-in paths and that the image is not given, each with the line that adds it. */
  readonly omissions: readonly Omission[];
}

/** What one component's packages are now: found by its definition, out of the archive's signed index. */
export async function resolvePackages(
  origin: DebianOrigin,
  component: Component,
  arch: Arch,
  { store, archive }: { store: Store; archive: Archive },
): Promise<ResolvedPackages> {
  const { snapshot, packages } = await archive.newest(origin.suite, arch);
  const always = RUNTIME_PACKAGES.filter((name) => packages.some((one) => one.name === name));
  const wanted = resolveClosure(packages, [...origin.packages, ...always]).map(({ path, sha256, size }) => ({
    locator: `debian:${path}`,
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
    // Those that the definition names are pinned in any case: python3 has its programs from python3-minimal, and its version itself.
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

/** What relocated programs are made of: all packages that are pinned for them, and what is done to them. */
export async function describeDebian(origin: DebianOrigin, context: DescribeContext): Promise<OriginDescription> {
  const { component, dir, pin, arch, records } = context;
  const materials = pinnedPackages(pin, arch);
  if (materials.length === 0)
    throw new UserError(`${component.name} ${component.version} has no pinned packages for ${arch}`, {
      where: dir,
      next: 'run flatcar-ext pin; nothing is fetched without a digest',
    });
  const pinned = new Set(materials.map(({ locator }) => basename(locator).split('_')[0] ?? ''));
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
 * Programs out of Debian's packages, relocated: fetched by their pins, unpacked and edited without root, the same bytes on every
 * run and for either architecture. Which packages are needed was found when they were pinned.
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
        ...(pin.snapshot === undefined ? {} : { snapshot: pin.snapshot }),
      };
      report({ type: 'step', text: `fetching ${pinned.length} packages of ${component.name} ${component.version} for ${arch}` });
      const unpacked = await unpackAll(
        pinned,
        ({ locator, sha256, size }) =>
          archive.fetchPackage({ path: locator.slice('debian:'.length), sha256, ...(size === undefined ? {} : { size }) }, at),
        temp,
        tools,
      );
      report({ type: 'step', text: `relocating ${component.name} ${component.version} for ${arch}` });
      const chosen = await chooseFiles(unpacked, origin, component.name, arch).catch((cause: unknown) => {
        if (!(cause instanceof UserError)) throw cause;
        // Either the definition is wrong, or the lock lacks a package that was there when it was pinned: nothing here tells which.
        throw new UserError(`${cause.message} (of the ${pinned.length} packages that are pinned for ${arch})`, {
          where: cause.where ?? join(dir, 'pins.json'),
          next: `${cause.next ?? 'correct the definition'}; where a pin was taken out of pins.json, ${at.repin} adds it`,
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
