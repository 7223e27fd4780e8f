/** What one package requires of another (Debian policy 7.1): `libc6:any (>= 2.34)`. */
export interface Relation {
  readonly name: string;
  /** `any`, `native` or an architecture. */
  readonly qualifier?: string;
  readonly version?: { readonly operator: string; readonly than: string };
}

/** A name that a package provides (Debian policy 7.5), with a version if it specifies one. */
export interface Provided {
  readonly name: string;
  readonly version?: string;
}

const RELATION = /^([^\s(:[<]+)(?::([\w-]+))?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)?\s*([^)\s]+)\s*\))?/;

function parseRelation(text: string): Relation | undefined {
  const [, name, qualifier, operator = '=', than] = RELATION.exec(text.trim()) ?? [];
  return name === undefined ? undefined : { name, qualifier, version: than === undefined ? undefined : { operator, than } };
}

/** Reads a field such as Depends: one relation of each list must be satisfied. */
export function parseDependencies(field = ''): Relation[][] {
  const lists = field.split(',').map((list) => list.split('|').flatMap((one) => parseRelation(one) ?? []));
  return lists.filter(({ length }) => length > 0);
}

/** Reads the field Provides. */
export function parseProvides(field = ''): Provided[] {
  return parseDependencies(field).flatMap(([one]) => (one === undefined ? [] : [{ name: one.name, version: one.version?.than }]));
}
