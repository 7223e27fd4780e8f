import { compareDebianVersions } from './version.ts';
import type { IndexedPackage } from './archive.ts';
import { UserError } from '../util/errors.ts';

/** What one package asks of another (Debian policy 7.1): `libc6:any (>= 2.34)`. */
export interface Relation {
  readonly name: string;
  /** `any`, `native` or an architecture. */
  readonly qualifier?: string;
  readonly version?: { readonly operator: string; readonly than: string };
}

/** What a package stands for (Debian policy 7.5); of the given version, where it has one. */
export interface Provided {
  readonly name: string;
  readonly version?: string;
}

const RELATION = /^([^\s(:[<]+)(?::([\w-]+))?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)?\s*([^)\s]+)\s*\))?/;

function parseRelation(text: string): Relation | undefined {
  const [, name, qualifier, operator = '=', than] = RELATION.exec(text.trim()) ?? [];
  return name === undefined ? undefined : { name, qualifier, version: than === undefined ? undefined : { operator, than } };
}

/** Reads a field such as Depends: of each list one is needed. */
export function parseDependencies(field = ''): Relation[][] {
  const lists = field.split(',').map((list) => list.split('|').flatMap((one) => parseRelation(one) ?? []));
  return lists.filter(({ length }) => length > 0);
}

/** Reads Provides. */
export function parseProvides(field = ''): Provided[] {
  return parseDependencies(field).flatMap(([one]) => (one === undefined ? [] : [{ name: one.name, version: one.version?.than }]));
}

/** Whether a version is one that is asked for; the single signs are old forms of the double ones that include equality (deb-substvars, policy 7.1). */
function isInRange(version: string, { operator, than }: NonNullable<Relation['version']>): boolean {
  const difference = compareDebianVersions(version, than);
  switch (operator) {
    case '<<':
      return difference < 0;
    case '<':
    case '<=':
      return difference <= 0;
    case '=':
      return difference === 0;
    case '>>':
      return difference > 0;
    default:
      return difference >= 0;
  }
}

/** Whether a package is what is asked for, by its own name or by one that it stands for: a version is met by a version only (policy 7.5). */
function satisfies(one: IndexedPackage, { name, qualifier = 'any', version }: Relation): boolean {
  const isArch = ['any', 'native'].includes(qualifier) || one.path.endsWith(`_${qualifier}.deb`) || one.path.endsWith('_all.deb');
  if (!isArch) return false;
  const meets = (own: string | undefined): boolean => version === undefined || (own !== undefined && isInRange(own, version));
  return (one.name === name && meets(one.version)) || one.provides.some((provided) => provided.name === name && meets(provided.version));
}

const shown = ({ name, version }: Relation): string => (version === undefined ? name : `${name} (${version.operator} ${version.than})`);

/**
 * Packages and all that they depend on, in the order in which they are found. Of alternatives the first is taken that there is, unless another
 * one is there already; of packages that stand for a name the one of that name, then the first by their names: the order of the index and what
 * it lists besides make no difference.
 */
export function resolveClosure(packages: readonly IndexedPackage[], roots: readonly string[]): IndexedPackage[] {
  const known = new Map<string, IndexedPackage[]>();
  for (const one of packages)
    for (const name of new Set([one.name, ...one.provides.map((provided) => provided.name)]))
      known.set(name, [...(known.get(name) ?? []), one]);
  const find = (relation: Relation): IndexedPackage | undefined =>
    (known.get(relation.name) ?? [])
      .filter((one) => satisfies(one, relation))
      .toSorted((a, b) => Number(b.name === relation.name) - Number(a.name === relation.name) || (a.name < b.name ? -1 : 1))[0];
  const closure = new Set<IndexedPackage>();
  const asked = roots.map((name) => {
    const found = find({ name });
    if (found === undefined) throw new UserError(`there is no package ${name}, which was asked for`);
    return found;
  });
  const isThere = (relation: Relation): boolean =>
    (known.get(relation.name) ?? []).some((one) => (closure.has(one) || asked.includes(one)) && satisfies(one, relation));
  const add = (one: IndexedPackage): void => {
    if (closure.has(one)) return;
    closure.add(one);
    for (const alternatives of one.depends) {
      const relation = alternatives.find(isThere) ?? alternatives.find((alternative) => find(alternative) !== undefined);
      if (relation === undefined)
        throw new UserError(`there is no package ${alternatives.map(shown).join(' or ')}, which ${one.name} depends on`);
      const there = (known.get(relation.name) ?? []).find((other) => closure.has(other) && satisfies(other, relation));
      const found = there ?? asked.find((other) => satisfies(other, relation)) ?? find(relation);
      if (found !== undefined) add(found);
    }
  };
  for (const one of asked) add(one);
  return [...closure];
}
