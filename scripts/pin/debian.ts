// What the scripts that pin Debian packages share: which packages a program loads its libraries from, and their pins.
import { join } from 'node:path';
import {
  openArchive,
  openStore,
  readElf,
  resolveClosure,
  unpackPackage,
  walk,
  type Arch,
  type Archive,
  type DebianPackage,
  type IndexedPackage,
  type Report,
} from '@flatcar/core/engine';

const report: Report = (event) => {
  if (event.type === 'step' || event.type === 'notice') console.error(event.text);
};
const store = openStore();
export const archive: Archive = openArchive(store, report);
export const component = 'main';

/** Packages of one architecture, with the suite that each is of. */
export interface Suites {
  readonly arch: Arch;
  readonly packages: readonly IndexedPackage[];
  suiteOf(name: string): string;
}

/** The packages of a suite; those that `newer` picks come from another one. */
export async function readSuites(arch: Arch, suite: string, newer?: { suite: string; picks: (name: string) => boolean }): Promise<Suites> {
  const base = await archive.packages(suite, component, arch);
  if (newer === undefined) return { arch, packages: base.packages, suiteOf: () => suite };
  const newest = new Map<string, IndexedPackage>();
  for (const one of (await archive.packages(newer.suite, component, arch)).packages) if (newer.picks(one.name)) newest.set(one.name, one);
  return {
    arch,
    packages: [...newest.values(), ...base.packages.filter(({ name }) => !newest.has(name))],
    suiteOf: (name) => (newest.has(name) ? newer.suite : suite),
  };
}

/**
 * Of the packages that `roots` depend on, the roots and those that their programs load libraries from.
 * `programs` selects the programs among the files of the roots; `loads` names libraries that no ELF header lists.
 */
export async function packagesWithLibraries(
  suites: Suites,
  roots: readonly string[],
  programs: (path: string) => boolean,
  loads: readonly string[] = [],
): Promise<string[]> {
  return store.withTemp(async (temp) => {
    const owners = new Map<string, { name: string; file: string }>();
    const started: string[] = [];
    for (const pin of resolveClosure(suites.packages, roots)) {
      const dir = join(temp, pin.name);
      const { file } = await archive.fetch(pin, { suite: suites.suiteOf(pin.name), snapshot: '', arch: suites.arch });
      await unpackPackage(file, dir);
      for (const { path, full, name, type } of await walk(dir)) {
        if (roots.includes(pin.name) && type === 'file' && programs(path)) started.push(full);
        if (/\.so(\.|$)/.test(name)) owners.set(name, { name: pin.name, file: full });
      }
    }
    const found = new Set<string>();
    const packages = new Set(roots);
    const visit = async (soname: string, by: string): Promise<void> => {
      if (found.has(soname)) return;
      found.add(soname);
      const owner = owners.get(soname);
      if (owner === undefined) throw new Error(`${by} needs ${soname}, which none of its dependencies contains`);
      packages.add(owner.name);
      await visitNeeded(owner.file, soname);
    };
    const visitNeeded = async (file: string, by: string): Promise<void> => {
      const needed = (await readElf(file))?.needed ?? [];
      for (const library of needed) await visit(library, by);
      if (needed.includes('libc.so.6')) await visit('libgcc_s.so.1', by); // glibc loads it when a thread is cancelled
    };
    for (const file of started) await visitNeeded(file, file);
    for (const name of loads) await visit(name, roots.join(' '));
    return [...packages].toSorted();
  });
}

/** The pins of packages by name; those of another suite than `suite` name it. */
export function pinsOf(
  suites: Suites,
  names: readonly string[],
  suite: string,
): Record<string, Omit<DebianPackage, 'name'> & { suite?: string }> {
  const known = new Map(suites.packages.map((one) => [one.name, one]));
  return Object.fromEntries(
    [...new Set(names)].toSorted().map((name) => {
      const found = known.get(name);
      if (found === undefined) throw new Error(`${name} does not exist for ${suites.arch}`);
      const { version, path, sha256, size } = found;
      const from = suites.suiteOf(name);
      return [name, { version, path, sha256, size, ...(from === suite ? {} : { suite: from }) }];
    }),
  );
}

/** JSON with one line for each innermost object and each list, so that a re-pin can be read. */
export function pinText(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2).replaceAll(
    /(": )(\{[^{}]*\}|\[[^[\]]*\])/g,
    (_, before: string, inner: string) => before + inner.replaceAll(/\s*\n\s*/g, ' '),
  )}\n`;
}
