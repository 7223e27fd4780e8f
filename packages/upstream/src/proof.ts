/** What the `proof` of a pin says, for lists and READMEs. */
export interface Proof {
  /** Upstream (or its registry) publishes a hash, and the bytes have it. */
  readonly published: boolean;
  /** A signature of upstream over the bytes or their checksums is good. */
  readonly signed: boolean;
}

/** For bytes that upstream publishes nothing about. */
export const FIRST_DOWNLOAD = 'nothing published: as first downloaded';

/** Such as `sha256 list, signed by PGP 0x…` or `sha256 file; signed by release@example.org (sigstore)`. */
export function formatProof(checksum: string | undefined, checksumSigner: string | undefined, signers: readonly string[]): string {
  const parts = [
    ...(checksum === undefined ? [] : [checksumSigner === undefined ? checksum : `${checksum}, signed by ${checksumSigner}`]),
    ...signers.map((signer) => `signed by ${signer}`),
  ];
  return parts.length === 0 ? FIRST_DOWNLOAD : parts.join('; ');
}

/** Reads what formatProof writes, and the proofs of Go and cargo; everything else (third-party pins) counts as nothing. */
export function readProof(proof: string): Proof {
  return {
    published:
      /^sha(?:256|512) (?:file|list)\b|^GitHub asset digest\b|^Go checksum database$|^crates registry index$|^Debian archive index\b/.test(
        proof,
      ),
    signed: /(?:^|, |; )signed by /.test(proof),
  };
}

/** What proofs are worth, the weakest first. `other` is the text of a person, which nothing is known about. */
const RANKS = [
  { what: 'other', test: /^/ },
  { what: 'first download', test: /^nothing published: as first downloaded$/ },
  { what: 'pin of a third party', test: /^third-party pin\b/ },
  { what: 'published hash', test: /^sha(?:256|512) (?:file|list)\b|^GitHub asset digest\b|^crates registry index$/ },
  { what: 'public log of hashes', test: /^Go checksum database$/ },
  { what: 'signature', test: /(?:^|, |; )signed by / },
] as const;

/** How much a proof is worth: a place in the table of proofs, higher is stronger. */
export function proofRank(proof: string): number {
  return RANKS.findLastIndex(({ test }) => test.test(proof));
}
