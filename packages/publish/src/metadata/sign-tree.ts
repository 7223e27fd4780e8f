import type { KeyObject } from 'node:crypto';
import { UserError } from '@flatcar/core/engine';
import { MetadataKind, Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp, type Root } from '@tufjs/models';
import {
  DAY_MS,
  expiryOf,
  isTrusted,
  LIFETIME_DAYS,
  metadataKey,
  signMetadata,
  SPEC_VERSION,
  type OnlineRole,
  type TreeMetadata,
} from './metadata.ts';

/** Private keys that we have, and the roots that clients have or will have: the published one and its successors. */
export interface Signers {
  readonly keys: readonly KeyObject[];
  readonly roots: readonly Metadata<Root>[];
}

/** Names of the variables that hold a role's key in CI. */
export const ROLE_VARIABLES: Readonly<Record<OnlineRole, string>> = {
  [MetadataKind.Targets]: 'FLATCAR_EXT_TARGETS_KEY',
  [MetadataKind.Snapshot]: 'FLATCAR_EXT_SNAPSHOT_KEY',
  [MetadataKind.Timestamp]: 'FLATCAR_EXT_TIMESTAMP_KEY',
};

/**
 * Signs metadata with all our keys that one of the roots lists for the role, so that it is valid before and after the last root is published.
 * Throws a UserError if the last root would not trust it.
 */
function signFor(role: OnlineRole, metadata: Metadata<Targets | Snapshot | Timestamp>, { keys, roots }: Signers): void {
  const ids = new Set(roots.flatMap(({ signed }) => signed.roles[role]?.keyIDs ?? []));
  signMetadata(
    metadata,
    keys.filter((key) => ids.has(metadataKey(key).keyID)),
  );
  const last = roots.at(-1);
  if (last !== undefined && isTrusted(last, role, metadata)) return;
  throw new UserError(
    `there is no key that may sign ${role}: root ${last?.signed.version} lists ${last?.signed.roles[role]?.keyIDs.join(', ')}`,
    {
      where: ROLE_VARIABLES[role],
      next: `pass --keys DIR with metadata/${role}-*.key.pem, or set ${ROLE_VARIABLES[role]}`,
    },
  );
}

/** Highest version that is continued. An attacker with a stolen key may have raised a version so far that none can follow it. */
const HIGHEST = 2 ** 31;

/** The version that follows a published one, or, after an attack, the version of the index. */
const following = (published: number, serial: number): number => (published < HIGHEST ? published : serial) + 1;

/** What the next metadata is about. */
export interface NextState {
  readonly before: TreeMetadata | undefined;
  /** The index, which is the one target, with its serial number. */
  readonly index: { readonly path: string; readonly length: number; readonly sha256: string; readonly serial: number };
  readonly now: Date;
  /** Whether a version of targets or snapshot has a file already: a killed publish, or another publisher, may have left one. */
  readonly isTaken: (role: MetadataKind, version: number) => Promise<boolean>;
}

/** Signed targets, snapshot and timestamp. */
export type SignedTree = Omit<TreeMetadata, 'root'>;

async function freeVersion(role: MetadataKind, from: number, { isTaken }: NextState): Promise<number> {
  for (let version = from; ; version += 1) if (!(await isTaken(role, version))) return version;
}

/** Signs a timestamp for a snapshot. */
export function signTimestamp(snapshot: number, version: number, signers: Signers, now: Date): Metadata<Timestamp> {
  const timestamp = new Metadata(
    new Timestamp({
      version,
      specVersion: SPEC_VERSION,
      expires: expiryOf(MetadataKind.Timestamp, now),
      snapshotMeta: new MetaFile({ version: snapshot }),
    }),
  );
  signFor(MetadataKind.Timestamp, timestamp, signers);
  return timestamp;
}

/** The version of the next timestamp of a tree. */
export const nextTimestampVersion = ({ timestamp }: TreeMetadata, serial: number): number => following(timestamp.signed.version, serial);

/** Signs the metadata of the next state of a tree. */
export async function signTree(state: NextState, signers: Signers): Promise<SignedTree> {
  const { before, index, now } = state;
  const { path, length, sha256, serial } = index;
  const common = (role: OnlineRole): { specVersion: string; expires: string } => ({
    specVersion: SPEC_VERSION,
    expires: expiryOf(role, now),
  });
  const version = (published: number | undefined): number => (published === undefined ? 1 : following(published, serial));

  const targetsVersion = await freeVersion(MetadataKind.Targets, version(before?.targets.signed.version), state);
  const target = new TargetFile({ path, length, hashes: { sha256 } });
  const targets = new Metadata(new Targets({ ...common(MetadataKind.Targets), version: targetsVersion, targets: { [path]: target } }));
  signFor(MetadataKind.Targets, targets, signers);

  const snapshotVersion = await freeVersion(MetadataKind.Snapshot, version(before?.snapshot.signed.version), state);
  const meta = { 'targets.json': new MetaFile({ version: targetsVersion }) };
  const snapshot = new Metadata(new Snapshot({ ...common(MetadataKind.Snapshot), version: snapshotVersion, meta }));
  signFor(MetadataKind.Snapshot, snapshot, signers);

  const timestamp = signTimestamp(snapshotVersion, version(before?.timestamp.signed.version), signers, now);
  return { targets, snapshot, timestamp };
}

/** Whether published metadata of a role stays as it is: the last root trusts it, and no more than half of its life has passed. */
export function isFresh(metadata: TreeMetadata, role: OnlineRole, { roots }: Signers, now: Date): boolean {
  const last = roots.at(-1);
  const half = (LIFETIME_DAYS[role] * DAY_MS) / 2;
  return last !== undefined && isTrusted(last, role, metadata[role]) && Date.parse(metadata[role].signed.expires) - now.getTime() > half;
}
