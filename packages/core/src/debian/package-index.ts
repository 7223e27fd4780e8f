import { readlink } from 'node:fs/promises';
import { dirname, join, matchesGlob, normalize } from 'node:path';
import { type Arch, archWords } from '../model/arch.ts';
import { UserError } from '../util/errors.ts';
import { filesBelow } from '../util/walk.ts';

/** An unpacked package. */
export interface PackageFiles {
  readonly name: string;
  readonly dir: string;
  /** Its source package, if known. */
  readonly source?: string;
}

/** A file or link of a package. */
export interface Found {
  /** Path in a merged /usr: `usr/bin/gdb`. */
  readonly path: string;
  readonly package: string;
  /** On disk. */
  readonly full: string;
  readonly link?: string;
}

/** A path in a merged /usr: older packages still have /bin, /sbin and /lib, and usr/sbin is a link on Flatcar. */
export const inUsr = (path: string): string => path.replace(/^(?=s?bin\/|lib(?:64)?\/)/, 'usr/').replace(/^usr\/sbin\//, 'usr/bin/');

/** The files of packages by path, of the first package that has each. */
export async function indexPackages(packages: readonly PackageFiles[]): Promise<Map<string, Found>> {
  const index = new Map<string, Found>();
  for (const { name, dir } of packages) {
    for (const { path: inPackage, full, type } of await filesBelow(dir)) {
      const path = inUsr(inPackage);
      if (index.has(path)) continue;
      index.set(path, { path, package: name, full, link: type === 'link' ? await readlink(full) : undefined });
    }
  }
  return index;
}

/** The target of a link, as a path in a merged /usr. */
export const targetOf = ({ path, link = '' }: Found): string =>
  inUsr(normalize(link.startsWith('/') ? link.slice(1) : join(dirname(path), link)));

/** The file behind a chain of links; undefined if the target does not exist. */
export function resolveLinks(index: ReadonlyMap<string, Found>, found: Found): Found | undefined {
  let at: Found | undefined = found;
  for (let hops = 0; at?.link !== undefined && hops < 20; hops += 1) at = index.get(targetOf(at));
  return at?.link === undefined ? at : undefined;
}

/** Globs of paths in packages with the words of an architecture. */
export function fillIn(globs: readonly string[], arch: Arch): string[] {
  const { triplet, machine } = archWords(arch);
  return globs.map((glob) => glob.replaceAll('{triplet}', triplet).replaceAll('{machine}', machine));
}

/** The glob of paths for an entry of `programs`: a name is located in Debian's bin or sbin, a path is used unchanged. */
export const programGlob = (entry: string): string => (entry.includes('/') ? entry : entry.replace(/^(!?)/, '$1usr/bin/'));

/** Whether a path matches such a glob. */
export function matches(path: string, pattern: string): boolean {
  const star = pattern.search(/[*?[{]/);
  if (star === -1) return path === pattern;
  if (!path.startsWith(pattern.slice(0, star))) return false;
  return pattern.endsWith('/**') && star === pattern.length - 2 ? true : matchesGlob(path, pattern);
}

/** A sorted selection by globs. Throws a UserError for a glob that matches nothing, unless `optional`. */
export function select(index: ReadonlyMap<string, Found>, globs: readonly string[], arch: Arch, { optional = false } = {}): Found[] {
  const patterns = fillIn(globs, arch);
  const chosen = new Map<string, Found>();
  for (const pattern of patterns.filter((one) => !one.startsWith('!'))) {
    const found = [...index.values()].filter(({ path }) => matches(path, pattern));
    if (found.length === 0 && !optional)
      throw new UserError(`no package has a file '${pattern}'`, {
        next: 'correct the path in the definition, or add the package that contains it',
      });
    for (const one of found) chosen.set(one.path, one);
  }
  for (const pattern of patterns.filter((one) => one.startsWith('!')))
    for (const path of chosen.keys()) if (matches(path, pattern.slice(1))) chosen.delete(path);
  return [...chosen.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}
