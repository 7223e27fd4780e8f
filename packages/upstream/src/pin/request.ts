import { formatProof, parseProof, type Component, type Extension, type PinnedVersion, type Proof } from '@flatcar/core/engine';

/** A digest with its size and proof. */
export interface Bytes {
  readonly sha256: string;
  readonly size?: number | undefined;
  readonly proof: Proof;
}

/** An entry of a lock, with the proof as text. */
export type LockedBytes = PinnedVersion['bytes'][string];

/** An entry of a lock, read: locks only contain proofs that can be parsed. */
export function readBytes({ sha256, size, proof: text }: LockedBytes): Bytes {
  const proof = parseProof(text);
  if (proof === undefined) throw new Error(`a lock has an invalid proof: ${text}`);
  return { sha256, size, proof };
}

/** The entry that is written to a lock. */
export const writeBytes = ({ sha256, size, proof }: Bytes): LockedBytes => ({ sha256, size, proof: formatProof(proof) });

/** What to pin. */
export interface PinRequest {
  /** Folder of the extension. */
  readonly dir: string;
  readonly extension: Extension;
  /** The lead component's version. */
  readonly version: string;
  /** Versions of coupled components; by default the pinned ones, else the newest that the definition allows. */
  readonly coupled?: Readonly<Record<string, string>>;
  /** SPDX expressions by component; by default the pinned ones, else what upstream publishes. */
  readonly licenses?: Readonly<Record<string, string>>;
  /** Prompts for the licence of a component that neither the lock nor upstream has; without it, such a component is an error. `hint`: what upstream has instead. */
  readonly askLicense?: (component: string, hint?: string) => Promise<string>;
  /**
   * Raises the revision, for other packaging, bytes or coupled versions of a pinned version: to at least this number, or by one if true.
   */
  readonly revision?: boolean | number;
  /** Keeps bytes that the lock has for this version or another one, and only asks upstream for the others. */
  readonly reusePins?: boolean;
}

/** True if other bytes than the pinned ones may be pinned, under a higher revision. */
export const isRevision = ({ revision }: PinRequest): boolean => revision === true || typeof revision === 'number';

/** The result for one set of bytes. */
export interface PinnedLine {
  readonly locator: string;
  readonly component: string;
  readonly sha256: string;
  /** As the lock has it. */
  readonly proof: string;
  /** `kept`: its host does not answer, and the pin was not changed; `carried`: the pin of another version was reused. */
  readonly change: 'new' | 'same' | 'other' | 'kept' | 'carried';
}

/** The result for one set of bytes, with the bytes themselves. */
export type Line = PinnedLine & { readonly bytes: Bytes };

export const lineOf = (locator: string, component: Component, bytes: Bytes, change: Line['change']): Line => ({
  locator,
  component: component.name,
  sha256: bytes.sha256,
  proof: formatProof(bytes.proof),
  change,
  bytes,
});

/** The result of `pin`. */
export interface PinResult {
  readonly extension: string;
  readonly version: string;
  readonly revision: number;
  readonly coupled: Readonly<Record<string, string>>;
  readonly lines: readonly PinnedLine[];
  /** Files that were written; none if nothing changed. */
  readonly written: readonly string[];
}
