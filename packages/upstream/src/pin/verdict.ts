import { formatProof, hasCode, isUnanswered, UserError } from '@flatcar/core/engine';
import { proofRank } from '../verify/proof.ts';
import type { Bytes } from './request.ts';

/** How a pinned entry compares with what upstream has. */
export interface Verdict {
  /**
   * `same`; `stronger`: the same bytes, and upstream proves more than the lock records; `different`: other bytes, or a proof that upstream does
   * not give; `unreached`: its host did not answer, or no longer has it.
   */
  readonly state: 'same' | 'stronger' | 'different' | 'unreached';
  /** What upstream has, or why it could not be compared. */
  readonly found: string;
}

/** Compares pinned bytes with those that upstream has. The pin of a third party stays, because it cannot be derived again. */
export function compareBytes(pinned: Bytes, found: Bytes): Verdict {
  if (pinned.sha256 !== found.sha256) return { state: 'different', found: `sha256 ${found.sha256}` };
  if (pinned.size !== undefined && found.size !== undefined && pinned.size !== found.size)
    return { state: 'different', found: `${found.size} bytes instead of ${pinned.size}` };
  const proof = formatProof(found.proof);
  if (formatProof(pinned.proof) === proof) return { state: 'same', found: proof };
  if (proofRank(pinned.proof) < proofRank(found.proof)) return { state: 'stronger', found: proof };
  return { state: pinned.proof.kind === 'third-party' ? 'same' : 'different', found: proof };
}

/** The verdict for an error: hosts that do not answer, old indexes and removed files do not contradict a pin, everything else does. */
export function verdictOfError(error: unknown): Verdict {
  if (isUnanswered(error) || hasCode(error, 'index-unavailable', 'index-stale')) return { state: 'unreached', found: error.message };
  if (error instanceof UserError) return { state: 'different', found: error.message };
  throw error;
}
