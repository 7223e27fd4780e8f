import { FIRST_DOWNLOAD, parseProof } from '@flatcar/core/engine';

export { FIRST_DOWNLOAD };

/** What the `proof` of a pin says, for lists and READMEs. */
export interface Proof {
  /** Upstream (or its registry) publishes a hash, and the bytes have it. */
  readonly published: boolean;
  /** A signature of upstream over the bytes or their checksums is good. */
  readonly signed: boolean;
}

/** Such as `sha256 list, signed by PGP 0x…` or `sha256 file; signed by release@example.org (sigstore)`. */
export function formatProof(checksum: string | undefined, checksumSigner: string | undefined, signers: readonly string[]): string {
  const parts = [
    ...(checksum === undefined ? [] : [checksumSigner === undefined ? checksum : `${checksum}, signed by ${checksumSigner}`]),
    ...signers.map((signer) => `signed by ${signer}`),
  ];
  return parts.length === 0 ? FIRST_DOWNLOAD : parts.join('; ');
}

/** What a proof is worth for a reader; text that is not a proof counts as nothing, and so does the pin of a third party. */
export function readProof(text: string): Proof {
  const proof = parseProof(text);
  if (proof === undefined || proof.kind === 'third-party') return { published: false, signed: false };
  if (proof.kind !== 'upstream') return { published: true, signed: proof.kind === 'debian' };
  const { checksum, checksumSigners, signers } = proof;
  return { published: checksum !== undefined, signed: checksumSigners.length + signers.length > 0 };
}

/** What proofs are worth, the weakest first. `none` is text that is not a proof. */
const RANKS = ['none', 'first download', 'pin of a third party', 'published hash', 'public log of hashes', 'signature'] as const;

function rankOf(text: string): (typeof RANKS)[number] {
  const proof = parseProof(text);
  if (proof === undefined) return 'none';
  if (proof.kind === 'third-party') return 'pin of a third party';
  if (proof.kind === 'go') return 'public log of hashes';
  const { published, signed } = readProof(text);
  if (signed) return 'signature';
  return published ? 'published hash' : 'first download';
}

/** How much a proof is worth: a place in the table of proofs, higher is stronger. */
export const proofRank = (proof: string): number => RANKS.indexOf(rankOf(proof));
