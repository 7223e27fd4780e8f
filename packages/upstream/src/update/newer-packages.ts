import { basename } from 'node:path';
import {
  ARCHES,
  archWords,
  assertNotOlder,
  compareDebianVersions,
  componentsOf,
  isPackageLocator,
  type Arch,
  type LoadedExtension,
  type PinnedVersion,
} from '@flatcar/core/engine';
import { newestPackages, type UpstreamContext } from '../context.ts';

/** A package of Debian in two versions, as in its file names (without an epoch). */
export interface PackageChange {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

/** The packages of the archive that are newer than those that a version of an extension is pinned with. */
export interface NewerPackages {
  readonly suite: string;
  /** Timestamps of the archive's index: when the packages were pinned, and now. */
  readonly snapshot: string;
  readonly now: string;
  readonly changes: readonly PackageChange[];
}

/** Name and version in the file name of a package. */
function nameAndVersion(path: string): [name: string, version: string] {
  const [name = '', version = ''] = basename(path, '.deb').split('_');
  return [name, decodeURIComponent(version)];
}

/** Versions of the pinned packages of an architecture, by name. */
function pinnedOf({ bytes }: PinnedVersion, arch: Arch): Map<string, string> {
  const ending = new RegExp(`_(?:${archWords(arch).debian}|all)\\.deb$`);
  const locators = Object.keys(bytes).filter((locator) => isPackageLocator(locator) && ending.test(locator));
  return new Map(locators.map((locator) => nameAndVersion(locator)));
}

/** One change for each package, by name. */
const unique = (changes: readonly PackageChange[]): PackageChange[] =>
  [...new Map(changes.map((one) => [one.name, one])).values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));

/**
 * Compares the packages that a version is pinned with, and their libraries, with those of the suite, its updates and its security updates: a
 * library may be fixed without a new version of the program. Undefined if nothing comes from packages.
 */
export async function newerPackages(
  loaded: LoadedExtension,
  version: string,
  context: UpstreamContext,
): Promise<NewerPackages | undefined> {
  const { components } = await componentsOf(loaded, version);
  const changes: PackageChange[] = [];
  let about: Omit<NewerPackages, 'changes'> | undefined;
  for (const { component, pin } of components) {
    for (const origin of component.origins) {
      if (origin.kind !== 'debian') continue;
      for (const arch of ARCHES) {
        const { packages, snapshot: now } = await newestPackages(origin.suite, arch, context);
        assertNotOlder(now, pin.snapshot, origin.suite);
        about = { suite: origin.suite, snapshot: pin.snapshot ?? '', now };
        const current = new Map(packages.map(({ name, path }) => [name, nameAndVersion(path)[1]]));
        for (const [name, from] of pinnedOf(pin, arch)) {
          const to = current.get(name);
          if (to !== undefined && compareDebianVersions(to, from) > 0) changes.push({ name, from, to });
        }
      }
    }
  }
  return about === undefined ? undefined : { ...about, changes: unique(changes) };
}
