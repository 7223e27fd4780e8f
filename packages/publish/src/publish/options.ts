import type { Report, Store } from '@flatcar/core/engine';
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
  /** URL of the tree; by default the URL in its index. */
  readonly baseUrl?: string;
  /** Origins that the first publish into a tree declares; by default `preferred`. A tree keeps its declaration. */
  readonly origins?: DeclaredOrigins;
  /** A version to mark as withdrawn, and its replacement among the images. */
  readonly withdraw?: { readonly name: string; readonly version: string; readonly reason: string; readonly by: string };
  /** The tree has no index yet. Otherwise only a new or empty folder becomes a tree. */
  readonly firstPublish?: boolean;
  /** Publishes without keys: disk images without a signature of their roothash, no update payloads for the official layout. */
  readonly unsigned?: boolean;
  /** Removes OpenPGP keys from the published keyring that are not among `keys`. */
  readonly dropKeys?: boolean;
  /** The catalogue page (HTML). Without it, a page that the tree has stays. */
  readonly page?: Buffer;
  /** Images that are too old by this are removed from index and sums; their files are removed by the next publish that changes something. */
  readonly retire?: Retention;
  /** Makes deltas for the new images with the tools of this store. Without a store, nodes fetch these images whole. */
  readonly store?: Store;
  /** Accepts a tree whose metadata has expired; it is signed again. Otherwise refused: somebody may have put back an old tree. */
  readonly acceptExpired?: boolean;
  /** Accepts an index that a revoked targets key has signed; it is signed again. */
  readonly acceptRevoked?: boolean;
  readonly report?: Report;
  readonly signal?: AbortSignal;
}

/** What a publish did. */
export interface PublishResult {
  readonly where: string;
  readonly serial: number;
  /** Paths of new images. */
  readonly added: readonly string[];
  /** Number of given images that were already published with the same bytes. */
  readonly unchanged: number;
  /** Paths of images and update payloads that were removed from the index. */
  readonly retired: readonly string[];
  /** Folders whose sums were written. */
  readonly signed: readonly string[];
}
