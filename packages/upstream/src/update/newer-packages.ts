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

/** A package of Debian in two versions, as its file names have them (without an epoch). */
export interface PackageChange {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

/** What the archive has instead of the packages that a version of an extension is pinned with. */
export interface NewerPackages {
  readonly suite: string;
  /** When the packages were pinned, and when the archive was asked: timestamps of its index. */
  readonly snapshot: string;
  readonly now: string;
  readonly changes: readonly PackageChange[];
}

function namesOf(path: string): [name: string, version: string] {
  const [name = '', version = ''] = basename(path, '.deb').split('_');
  return [name, decodeURIComponent(version)];
}

/** Pinned packages by name, of an architecture. */
function pinnedOf({ bytes }: PinnedVersion, arch: Arch): Map<string, string> {
  const ending = new RegExp(`_(?:${archWords(arch).debian}|all)\\.deb$`);
  const locators = Object.keys(bytes).filter((locator) => isPackageLocator(locator) && ending.test(locator));
  return new Map(locators.map((locator) => namesOf(locator)));
}

const unique = (changes: readonly PackageChange[]): PackageChange[] => [...new Map(changes.map((one) => [one.name, one])).values()].toSorted((a, b) => (a.name < b.name ? -1 : 1)); // prettier-ignore

/**
 * Compares the packages that a version is pinned with, and their libraries, with those of the suite, its updates and its security
 * updates: the version of a program says nothing of a library that was mended. Undefined where nothing comes out of packages.
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
        const there = new Map(packages.map(({ name, path }) => [name, namesOf(path)[1]]));
        for (const [name, from] of pinnedOf(pin, arch)) {
          const to = there.get(name);
          if (to !== undefined && compareDebianVersions(to, from) > 0) changes.push({ name, from, to });
        }
      }
    }
  }
  return about === undefined ? undefined : { ...about, changes: unique(changes) };
}
