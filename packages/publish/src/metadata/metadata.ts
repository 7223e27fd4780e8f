import { createHash, createPublicKey, sign, type KeyObject } from 'node:crypto';
import { messageOf, UserError } from '@flatcar/core/engine';
import { Key, Metadata, MetadataKind, Signature, type Root, type Snapshot, type Targets, type Timestamp } from '@tufjs/models';

/**
 * The metadata of a tree as The Update Framework defines it (theupdateframework.github.io/specification, 1.0): `metadata/<n>.root.json`,
 * `<n>.targets.json`, `<n>.snapshot.json` and `timestamp.json`, with ed25519 keys and consistent snapshots.
 */
export const SPEC_VERSION = '1.0.34';

/** The four roles, in the order in which clients verify them. */
export const ROLES = [MetadataKind.Root, MetadataKind.Timestamp, MetadataKind.Snapshot, MetadataKind.Targets] as const;
/** Roles whose keys sign at every publish, in the order of signing. */
export const ONLINE_ROLES = [MetadataKind.Targets, MetadataKind.Snapshot, MetadataKind.Timestamp] as const;
export type Role = (typeof ROLES)[number];
export type OnlineRole = (typeof ONLINE_ROLES)[number];

/** Days until metadata expires. A job signs the timestamp again each day; targets and snapshot are signed at each publish. */
export const LIFETIME_DAYS: Readonly<Record<Role, number>> = {
  [MetadataKind.Root]: 730,
  [MetadataKind.Targets]: 365,
  [MetadataKind.Snapshot]: 365,
  [MetadataKind.Timestamp]: 7,
};

/** The metadata of one state of a tree. */
export interface TreeMetadata {
  readonly root: Metadata<Root>;
  readonly targets: Metadata<Targets>;
  readonly snapshot: Metadata<Snapshot>;
  readonly timestamp: Metadata<Timestamp>;
}

/** A day in milliseconds. */
export const DAY_MS = 86_400_000;

/** When metadata of a role expires that is signed now, in the form that the specification requires: without fractions of a second. */
export function expiryOf(role: Role, now: Date): string {
  return new Date(now.getTime() + LIFETIME_DAYS[role] * DAY_MS).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** The public half of an ed25519 key as metadata names it. The key's ID is the digest of its canonical JSON. */
export function metadataKey(key: KeyObject): Key {
  const { x } = createPublicKey(key).export({ format: 'jwk' });
  const keyVal = { public: Buffer.from(x ?? '', 'base64url').toString('hex') };
  const canonical = `{"keytype":"ed25519","keyval":{"public":"${keyVal.public}"},"scheme":"ed25519"}`;
  const keyID = createHash('sha256').update(canonical).digest('hex');
  return new Key({ keyID, keyType: 'ed25519', scheme: 'ed25519', keyVal });
}

/** Adds the signatures of private keys to metadata. */
export function signMetadata(metadata: Metadata<Root | Snapshot | Targets | Timestamp>, keys: readonly KeyObject[]): void {
  for (const key of keys) {
    const { keyID } = metadataKey(key);
    metadata.sign((bytes) => new Signature({ keyID, sig: sign(undefined, bytes, key).toString('hex') }));
  }
}

/** The bytes of metadata as they are published. */
export const metadataBytes = (metadata: Metadata<Root | Snapshot | Targets | Timestamp>): Buffer =>
  Buffer.from(`${JSON.stringify(metadata.toJSON())}\n`);

interface Kinds {
  readonly [MetadataKind.Root]: Root;
  readonly [MetadataKind.Targets]: Targets;
  readonly [MetadataKind.Snapshot]: Snapshot;
  readonly [MetadataKind.Timestamp]: Timestamp;
}

/** Reads metadata without verifying it. Throws a UserError for anything that is not metadata of this role. */
export function parseMetadata<K extends Role>(role: K, bytes: Buffer, where: string): Metadata<Kinds[K]> {
  try {
    // The overloads of fromJSON take one literal each.
    return Metadata.fromJSON(role as MetadataKind.Root, JSON.parse(bytes.toString())) as Metadata<
      Root | Snapshot | Targets | Timestamp
    > as Metadata<Kinds[K]>;
  } catch (cause) {
    throw new UserError(`not valid TUF metadata of the role ${role}: ${messageOf(cause)}`, { where, cause });
  }
}

/** Whether a root trusts metadata of a role: it has the signatures of enough of the role's keys. */
export function isTrusted(root: Metadata<Root>, role: Role, metadata: Metadata<Root | Snapshot | Targets | Timestamp>): boolean {
  try {
    root.verifyDelegate(role, metadata);
    return true;
  } catch {
    return false;
  }
}

/** Whether a root may follow another one: the next version, signed by the thresholds of both. */
export const isSuccessor = (root: Metadata<Root>, next: Metadata<Root>): boolean =>
  next.signed.version === root.signed.version + 1 && isTrusted(root, MetadataKind.Root, next) && isTrusted(next, MetadataKind.Root, next);
