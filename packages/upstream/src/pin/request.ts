import type { Extension, PinnedVersion } from '@flatcar/core/engine';

/** A digest with its size and proof, as a lock has it. */
export type Bytes = PinnedVersion['bytes'][string];

/** What is to be pinned. */
export interface PinRequest {
  /** Folder of the extension. */
  readonly dir: string;
  readonly extension: Extension;
  /** The lead component's version. */
  readonly version: string;
  /** Versions of coupled components; those that are pinned, else the newest that the definition keeps, unless said. */
  readonly coupled?: Readonly<Record<string, string>>;
  /** SPDX expressions by component; those that are pinned, else what GitHub says, unless said. */
  readonly licenses?: Readonly<Record<string, string>>;
  /** Asks a person for a component's licence that neither is known nor could be found; without it that is an error. `hint`: what upstream says. */
  readonly askLicense?: (component: string, hint?: string) => Promise<string>;
  /**
   * Raises the revision: for other packaging, bytes or coupled versions under a version that is pinned. A number is the revision to take, at
   * least; true is one more than the pinned one.
   */
  readonly revision?: boolean | number;
  /** Bytes that the lock has pinned, under this version or another, stay as they are: only what changed is asked for. */
  readonly carry?: boolean;
}

/** True when other bytes than the pinned ones may be pinned, under a higher revision. */
export const isRevision = ({ revision }: PinRequest): boolean => revision === true || typeof revision === 'number';

/** What became of one set of bytes. */
export interface PinnedLine {
  readonly locator: string;
  readonly component: string;
  readonly sha256: string;
  readonly proof: string;
  /** `kept`: its host cannot be reached, and the pin stands as it was; `carried`: as another version has it. */
  readonly change: 'new' | 'same' | 'other' | 'kept' | 'carried';
}

/** What was pinned. */
export interface PinResult {
  readonly extension: string;
  readonly version: string;
  readonly revision: number;
  readonly with: Readonly<Record<string, string>>;
  readonly lines: readonly PinnedLine[];
  /** Files that were written; none when nothing changed. */
  readonly written: readonly string[];
}
