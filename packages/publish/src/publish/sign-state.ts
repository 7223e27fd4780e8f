import { UserError } from '@flatcar/core/engine';
import { MetadataKind } from '@tufjs/models';
import type { Destination } from '../destinations/destination.ts';
import { isTrusted, metadataBytes, metadataKey, type TreeMetadata } from '../metadata/metadata.ts';
import { rememberedTree } from '../tree/memory.ts';
import type { MetadataKeys } from '../keys/role-keys.ts';
import type { RootFile } from '../metadata/root.ts';
import { isFresh, nextTimestampVersion, signTimestamp, signTree, type Signers } from '../metadata/sign-tree.ts';
import { sha256Of } from '../tree/digest.ts';
import { INDEX, metadataPath, rootPath, targetPath } from '../tree/layout.ts';
import { indexText, type Index } from '../tree/schema.ts';
import type { Published } from '../tree/state.ts';
import type { Source } from '../tree/tree.ts';
import type { Trust } from '../tree/trusted.ts';
import { stageBytes, type Staged } from './stage.ts';

/** What a publisher trusts: the newest of its roots that the tree has. The tree may lack the root of a change of keys. */
export async function publisherTrust(source: Source, { roots }: MetadataKeys, expired = false): Promise<Trust> {
  for (const root of roots.toReversed()) {
    const path = rootPath(root.root.signed.version);
    const published = await source.read(path);
    if (published === undefined) continue;
    if (!published.equals(root.bytes))
      throw new UserError(`the tree has another root of this version than ${root.where}`, {
        where: `${source.where}/${path}`,
        next: 'find out whose tree this is; publish with its root and keys',
        code: 'bad-signature',
      });
    return { root, expired };
  }
  return { root: roots[0], expired };
}

/** Our keys, and the roots that clients have or will have: the published one and those of ours that follow it. */
export function signersOf({ roots, signing }: MetadataKeys, published: TreeMetadata | undefined): Signers {
  const newer = missingRoots({ roots }, published).map(({ root }) => root);
  return { keys: signing, roots: published === undefined ? newer : [published.root, ...newer] };
}

/** Roots of ours that the tree lacks. */
function missingRoots({ roots }: Pick<MetadataKeys, 'roots'>, published: TreeMetadata | undefined): readonly RootFile[] {
  return roots.filter(({ root }) => root.signed.version > (published?.root.signed.version ?? 0));
}

/** True if targets and snapshot must be signed again although nothing else changes: their keys changed, or half of their life has passed. */
export const isStateStale = (published: TreeMetadata, signers: Signers, now: Date): boolean =>
  ![MetadataKind.Targets, MetadataKind.Snapshot].every((role) => isFresh(published, role as MetadataKind.Targets, signers, now));

/**
 * Refuses to sign an index again whose key was revoked, because whoever has that key may have made the index. `accept`: the publisher has
 * compared it.
 */
export function checkRevoked(published: TreeMetadata | undefined, { keys, roots }: Signers, where: string, accept: boolean): void {
  const last = roots.at(-1);
  if (accept || published === undefined || last === undefined || isTrusted(last, MetadataKind.Targets, published.targets)) return;
  // After a planned change the former key is still ours.
  if (keys.some((key) => published.targets.signatures[metadataKey(key).keyID] !== undefined)) return;
  throw new UserError('the published index is signed by a targets key that was revoked: somebody else may have made it', {
    where,
    next: 'compare the tree with a copy that you trust; if it is yours, pass --accept-revoked',
    code: 'bad-signature',
  });
}

/** Files of the next state, in the order in which they become visible. */
export interface StagedState {
  /** The index by its digest, targets and snapshot; empty if they stay. */
  readonly state: readonly Staged[];
  readonly timestamp: Buffer | undefined;
  readonly roots: readonly Staged[];
}

/** Signs the metadata for an index; only what must change. */
export async function signState(
  destination: Destination,
  staging: string,
  { metadata: before }: Pick<Published, 'metadata'>,
  { index, isSame, keys }: { readonly index: Index; readonly isSame: boolean; readonly keys: MetadataKeys },
  now: Date,
): Promise<StagedState> {
  const signers = signersOf(keys, before);
  const [first] = signers.roots;
  if (before === undefined && first?.signed.version !== 1)
    throw new UserError(`a new tree begins with root 1, and the first root at hand is ${first?.signed.version}`, {
      where: keys.roots[0]?.where,
      next: 'pass a folder with all roots, <n>.root.json: --root DIR',
    });
  const roots = await Promise.all(
    missingRoots(keys, before).map(({ bytes, root }) => stageBytes(staging, rootPath(root.signed.version), bytes)),
  );
  if (isSame && before !== undefined) {
    const version = nextTimestampVersion(before, index.serial);
    const timestamp = isFresh(before, MetadataKind.Timestamp, signers, now)
      ? undefined
      : signTimestamp(before.snapshot.signed.version, version, signers, now);
    return { state: [], timestamp: timestamp && metadataBytes(timestamp), roots };
  }
  const bytes = Buffer.from(indexText(index));
  const sha256 = sha256Of(bytes);
  const isTaken = async (role: MetadataKind, version: number): Promise<boolean> =>
    (await destination.read(metadataPath(role, version))) !== undefined;
  const next = await signTree(
    { before, index: { path: INDEX, length: bytes.length, sha256, serial: index.serial }, now, isTaken },
    signers,
  );
  return {
    state: [
      await stageBytes(staging, targetPath(sha256), bytes),
      await stageBytes(staging, metadataPath(MetadataKind.Targets, next.targets.signed.version), metadataBytes(next.targets)),
      await stageBytes(staging, metadataPath(MetadataKind.Snapshot, next.snapshot.signed.version), metadataBytes(next.snapshot)),
    ],
    timestamp: metadataBytes(next.timestamp),
    roots,
  };
}

/** Remembers a state that this publisher has made: whoever turns the tree back afterwards is noticed. */
export async function rememberState({ where }: Source, timestamp: Buffer | undefined): Promise<void> {
  if (timestamp !== undefined) await rememberedTree(where).write(new Map([['timestamp.json', timestamp]]));
}
