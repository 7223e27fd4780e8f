import type { Proof } from '@flatcar/core/engine';

/** What a proof shows, for lists and READMEs. */
export interface ProofStrength {
  /** Upstream, or its registry, publishes a hash, and the bytes match it. */
  readonly published: boolean;
  /** Upstream signed the bytes or their checksums, and the signature is good. */
  readonly signed: boolean;
}

/** What a proof shows; the pin of a third party shows nothing, nor does a missing proof. */
export function proofStrength(proof: Proof | undefined): ProofStrength {
  if (proof === undefined || proof.kind === 'third-party') return { published: false, signed: false };
  if (proof.kind !== 'upstream') return { published: true, signed: proof.kind === 'debian' };
  const { checksum, checksumSigners, signers } = proof;
  return { published: checksum !== undefined, signed: checksumSigners.length + signers.length > 0 };
}

/** Ranks of proofs, the weakest first. */
const RANKS = ['none', 'first download', 'pin of a third party', 'published hash', 'public log of hashes', 'signature'] as const;

function rankOf(proof: Proof | undefined): (typeof RANKS)[number] {
  if (proof === undefined) return 'none';
  if (proof.kind === 'third-party') return 'pin of a third party';
  if (proof.kind === 'go') return 'public log of hashes';
  const { published, signed } = proofStrength(proof);
  if (signed) return 'signature';
  return published ? 'published hash' : 'first download';
}

/** How strong a proof is, for comparisons: a higher number is stronger. */
export const proofRank = (proof: Proof | undefined): number => RANKS.indexOf(rankOf(proof));

/** True for the proof of bytes that upstream publishes nothing about. */
export const isFirstDownload = (proof: Proof): boolean => proofRank(proof) === RANKS.indexOf('first download');
