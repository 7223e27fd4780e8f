import * as v from 'valibot';
import { UserError } from '../util/errors.ts';
import { parseToml } from '../util/toml.ts';

/** A crate with a digest in Cargo.lock. */
export interface LockedCrate {
  readonly name: string;
  readonly version: string;
  readonly checksum: string;
}

const NEXT = 'restore Cargo.lock from git, or let cargo write it again';
const LockSchema = v.object({
  package: v.optional(
    v.array(v.object({ name: v.string(), version: v.string(), source: v.optional(v.string()), checksum: v.optional(v.string()) })),
    [],
  ),
});

/**
 * The crates of a Cargo.lock that come from a registry. Throws a UserError for a crate from git, which has no digest, and for a name that no registry
 * would give a crate: names become parts of paths.
 */
export function lockedCrates(text: string, where: string): LockedCrate[] {
  const about = { what: 'Cargo.lock', where, next: NEXT };
  const parsed = v.safeParse(LockSchema, parseToml(text, about));
  if (!parsed.success) throw new UserError(`invalid Cargo.lock: ${parsed.issues[0].message}`, { where, next: NEXT });
  return parsed.output.package.flatMap(({ name, version, source, checksum }) => {
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
