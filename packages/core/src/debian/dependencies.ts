import { UserError } from '../util/errors.ts';
import type { IndexedPackage } from './packages.ts';
import type { Relation } from './relations.ts';
import { compareDebianVersions } from './version.ts';

/** Whether a version satisfies a relation; `<` and `>` are old forms of `<=` and `>=` (deb-substvars, policy 7.1). */
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

/** Whether a package satisfies a relation, by its own name or by one that it provides: only a version satisfies a version (policy 7.5). */
function satisfies(one: IndexedPackage, { name, qualifier = 'any', version }: Relation): boolean {
  const isArch = ['any', 'native'].includes(qualifier) || one.path.endsWith(`_${qualifier}.deb`) || one.path.endsWith('_all.deb');
  if (!isArch) return false;
  const meets = (own: string | undefined): boolean => version === undefined || (own !== undefined && isInRange(own, version));
  return (one.name === name && meets(one.version)) || one.provides.some((provided) => provided.name === name && meets(provided.version));
}

const shown = ({ name, version }: Relation): string => (version === undefined ? name : `${name} (${version.operator} ${version.than})`);

/** Packages of an index by the names that they have and provide. */
function packagesByName(packages: readonly IndexedPackage[]): (name: string) => readonly IndexedPackage[] {
  const known = new Map<string, IndexedPackage[]>();
  for (const one of packages)
    for (const name of new Set([one.name, ...one.provides.map((provided) => provided.name)]))
      known.set(name, [...(known.get(name) ?? []), one]);
  return (name) => known.get(name) ?? [];
}

/**
 * Packages with all that they depend on, in the order in which they are reached. Of alternatives, one that is already included wins, else the first
 * that exists; of packages that provide a name, the one of that name wins, else the first by name. So neither the order of the index nor
 * its other packages make a difference. Throws a UserError for a root or a dependency that no package satisfies.
 */
export function resolveClosure(packages: readonly IndexedPackage[], roots: readonly string[]): IndexedPackage[] {
  const named = packagesByName(packages);
  const find = (relation: Relation): IndexedPackage | undefined =>
    named(relation.name)
      .filter((one) => satisfies(one, relation))
      .toSorted((a, b) => Number(b.name === relation.name) - Number(a.name === relation.name) || (a.name < b.name ? -1 : 1))[0];
  const closure = new Set<IndexedPackage>();
  const requested = roots.map((name) => {
    const found = find({ name });
    if (found === undefined) throw new UserError(`package '${name}' does not exist`);
    return found;
  });
  const isIncluded = (relation: Relation): boolean =>
    named(relation.name).some((one) => (closure.has(one) || requested.includes(one)) && satisfies(one, relation));
  const add = (one: IndexedPackage): void => {
    if (closure.has(one)) return;
    closure.add(one);
    for (const alternatives of one.depends) {
      const relation = alternatives.find(isIncluded) ?? alternatives.find((alternative) => find(alternative) !== undefined);
      if (relation === undefined)
        throw new UserError(`package '${one.name}' depends on ${alternatives.map(shown).join(' or ')}, which no package satisfies`);
      const included = named(relation.name).find((other) => closure.has(other) && satisfies(other, relation));
      const found = included ?? requested.find((other) => satisfies(other, relation)) ?? find(relation);
      if (found !== undefined) add(found);
    }
  };
  for (const one of requested) add(one);
  return [...closure];
}
