import { MetadataKind } from '@tufjs/models';
import type { Destination } from '../destinations/destination.ts';
import { metadataBytes } from '../metadata/metadata.ts';
import type { MetadataKeys } from '../keys/role-keys.ts';
import { nextTimestampVersion, signTimestamp } from '../metadata/sign-tree.ts';
import { METADATA } from '../tree/layout.ts';
import { NoTreeError, readPublished } from '../tree/state.ts';
import { untilNoConflict } from './conflicts.ts';
import { publisherTrust, rememberState, signersOf } from './sign-state.ts';

/** What a renewed timestamp says. */
export interface RenewedTimestamp {
  readonly where: string;
  readonly serial: number;
  readonly version: number;
  /** Until when clients accept the tree, unless it is signed again. */
  readonly expires: string;
}

/**
 * Signs the timestamp of a tree again, and nothing else: the tree is still current. Needs the timestamp key only. Refuses a tree that is older
 * than what this publisher has seen, and one whose metadata has expired unless `acceptExpired`.
 */
export async function renewTimestamp(
  destination: Destination,
  keys: MetadataKeys,
  { acceptExpired = false, signal }: { readonly acceptExpired?: boolean; readonly signal?: AbortSignal } = {},
): Promise<RenewedTimestamp> {
  return untilNoConflict(
    () =>
      destination.publish(async () => {
        const { index, metadata } = await readPublished(destination, await publisherTrust(destination, keys, acceptExpired));
        if (index === undefined || metadata === undefined) throw new NoTreeError(destination);
        const version = nextTimestampVersion(metadata, index.serial);
        const timestamp = signTimestamp(metadata.snapshot.signed.version, version, signersOf(keys, metadata), new Date());
        const bytes = metadataBytes(timestamp);
        await destination.replace(METADATA, new Map([[`${MetadataKind.Timestamp}.json`, bytes]]));
        await rememberState(destination, bytes);
        return { where: destination.where, serial: index.serial, version, expires: timestamp.signed.expires };
      }),
    { signal },
  );
}
