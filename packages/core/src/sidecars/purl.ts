import { PackageURL } from 'packageurl-js';

/**
 * A package URL in its canonical form (purl-spec, "Character encoding"): packageurl-js leaves `+` in versions and encodes `:` and `~` in qualifiers,
 * where the specification does the opposite. `name` has its namespace before the last `/`. Case is kept, since names of Go modules depend on it.
 */
export function purl(type: string, name: string, version: string, qualifiers?: Readonly<Record<string, string>>): string {
  const at = name.lastIndexOf('/');
  const namespace = at === -1 ? undefined : name.slice(0, at);
  const url = new PackageURL(type, namespace, name.slice(at + 1), version, qualifiers, undefined).toString();
  return url.replaceAll('+', '%2B').replaceAll('%3A', ':').replaceAll('%7E', '~');
}
