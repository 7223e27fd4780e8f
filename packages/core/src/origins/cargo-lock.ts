import { UserError } from '../util/errors.ts';

/** A crate with a digest in Cargo.lock. */
export interface LockedCrate {
  readonly name: string;
  readonly version: string;
  readonly checksum: string;
}

/**
 * The crates of a Cargo.lock that come from a registry. Each entry is `[[package]]` with one `key = "value"` a line, as cargo writes it (never by
 * hand). Throws a UserError for a crate from git, which has no digest, and for a name that no registry would give a crate: names become parts of paths.
 */
export function lockedCrates(text: string, where: string): LockedCrate[] {
  return text.split('[[package]]').flatMap((entry) => {
    const fields = new Map([...entry.matchAll(/^(\w+) = "([^"\n]*)"$/gm)].map(([, key = '', value = '']) => [key, value]));
    const [name = '', version = '', source, checksum] = ['name', 'version', 'source', 'checksum'].map((key) => fields.get(key));
    if (source?.startsWith('git+')) throw new UserError(`the crate '${name}' comes from git: Cargo.lock has no digest for it`, { where });
    if (checksum === undefined) return [];
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(name) || !/^\d[0-9A-Za-z.+-]{0,127}$/.test(version) || !/^[0-9a-f]{64}$/.test(checksum))
      throw new UserError(`invalid Cargo.lock: ${JSON.stringify(`${name} ${version}`.slice(0, 100))} is not a crate of a registry`, {
        where,
        next: 'check where this file comes from: cargo does not write such names',
      });
    return [{ name, version, checksum }];
  });
}
