import type { Report } from '@flatcar/core/engine';
import type { Destination } from '../destinations/destination.ts';
import type { PublishKeys } from '../keys/keys.ts';
import type { DeclaredOrigins } from '../tree/origins.ts';
import type { Retention } from './retire.ts';

/** What is published, where, and under which conditions. */
export interface PublishOptions {
  /** Images and payload records, or folders that hold them. */
  readonly paths: readonly string[];
  readonly destination: Destination;
  readonly keys: PublishKeys;
  /** URL under which the tree is served; that of the tree unless said. */
  readonly baseUrl?: string;
  /** Declared by the first publish into a tree; `preferred` unless said. A tree keeps what it has declared. */
  readonly origins?: DeclaredOrigins;
  /** A version to mark as withdrawn, with the one among the images that takes its place. */
  readonly withdraw?: { readonly name: string; readonly version: string; readonly reason: string; readonly by: string };
  /** The tree is meant to have no index yet. Without it, only a folder that is empty or not there yet becomes a tree. */
  readonly firstPublish?: boolean;
  /** Publishes although a key is missing: disk images without a signature of their roothash, no update payloads for the official layout. */
  readonly unsigned?: boolean;
  /** Takes OpenPGP keys out of the published keyring that are not among `keys` any more. */
  readonly dropKeys?: boolean;
  /** What by this is too old leaves index and sums; its files leave with the next publish that changes something. */
  readonly retire?: Retention;
  readonly report?: Report;
  readonly signal?: AbortSignal;
}

/** What a publish did. */
export interface PublishResult {
  readonly where: string;
  readonly serial: number;
  /** Paths of images that were not there before. */
  readonly added: readonly string[];
  /** Number of given images that were published before, with the same bytes. */
  readonly unchanged: number;
  /** Images and update payloads that left the index. */
  readonly retired: readonly string[];
  /** Folders whose sums were written. */
  readonly signed: readonly string[];
}
