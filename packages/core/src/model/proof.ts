/** Who made a signature: an OpenPGP key, or an identity of sigstore, with the repository and ref of the run if the definition names them. */
export type ProofSigner =
  | { readonly kind: 'pgp'; readonly fingerprint: string }
  | { readonly kind: 'sigstore'; readonly identity: string; readonly source?: string; readonly ref?: string };

/** What a digest in a lock was checked by. `pin --check` derives every proof again except the pin of a third party. */
export type Proof =
  /** What upstream publishes about its file: nothing if there are no checksum and no signers. */
  | {
      readonly kind: 'upstream';
      readonly checksum?: Checksum;
      readonly checksumSigners: readonly ProofSigner[];
      readonly signers: readonly ProofSigner[];
    }
  | { readonly kind: 'debian' | 'go' | 'crates' }
  /** A digest that another project had pinned. `from` names it. */
  | { readonly kind: 'third-party'; readonly from?: string; readonly note?: 'one source' | 'upstream publishes no checksum' };

/** The hash that upstream publishes: its algorithm, and whether it is alone in its file or in a list. */
export type Checksum = `${'sha256' | 'sha512'} ${'file' | 'list'}` | 'GitHub asset digest';

/** Text of the proof of bytes that upstream publishes nothing about. */
export const FIRST_DOWNLOAD = 'nothing published: as first downloaded';
const REGISTRIES = {
  'Debian archive index, signed by the archive key': 'debian',
  'Go checksum database': 'go',
  'crates registry index': 'crates',
} as const;
const CHECKSUM = /^(?:sha(?:256|512) (?:file|list)|GitHub asset digest)(?=$|, signed by |; signed by )/;
const THIRD_PARTY = /^third-party pin(?:: (?<from>[\w.@/+-]+))?(?:[,;] (?<note>one source|upstream publishes no checksum))?$/;
const PGP = /^PGP 0x([0-9A-F]{40}|[0-9A-F]{64})$/;
const SIGSTORE = /^(?<identity>[^\s,;]+)(?: for (?<source>https?:\/\/[^\s,;]+))?(?: at (?<ref>refs\/[^\s,;]+))? \(sigstore\)$/;

/** The forms of a proof's text, for errors. */
export const PROOF_FORMS = `'${FIRST_DOWNLOAD}', 'sha256 list, signed by PGP 0x…', 'third-party pin: PROJECT', ${Object.keys(REGISTRIES)
  .map((one) => `'${one}'`)
  .join(', ')}`;

function parseSigner(text: string): ProofSigner | undefined {
  const [, fingerprint] = PGP.exec(text) ?? [];
  if (fingerprint !== undefined) return { kind: 'pgp', fingerprint };
  const { identity, source, ref } = SIGSTORE.exec(text)?.groups ?? {};
  return identity === undefined ? undefined : { kind: 'sigstore', identity, source, ref };
}

/** All signers of a list; undefined if any of them is not valid. */
function parseSigners(list: readonly string[]): ProofSigner[] | undefined {
  const signers = list.map(parseSigner);
  return signers.every((one) => one !== undefined) ? signers : undefined;
}

/** Reads the text of a proof; undefined if formatProof does not write such a text. */
export function parseProof(text: string): Proof | undefined {
  const registry = Object.entries(REGISTRIES).find(([known]) => known === text)?.[1];
  if (registry !== undefined) return { kind: registry };
  if (text === FIRST_DOWNLOAD) return { kind: 'upstream', checksumSigners: [], signers: [] };
  const third = THIRD_PARTY.exec(text)?.groups as Pick<Proof & { kind: 'third-party' }, 'from' | 'note'> | undefined;
  if (third !== undefined) return { kind: 'third-party', from: third.from, note: third.note };
  const checksum = CHECKSUM.exec(text)?.[0] as Checksum | undefined;
  const [first = '', ...rest] = text.slice(checksum?.length ?? 0).split('; ');
  const bare = checksum === undefined ? [first, ...rest] : rest;
  if (bare.some((one) => !one.startsWith('signed by '))) return undefined;
  const ofList = checksum === undefined || first === '' ? [] : first.slice(', signed by '.length).split(', ');
  const [checksumSigners, signers] = [ofList, bare.map((one) => one.slice('signed by '.length))].map(parseSigners);
  if (checksumSigners === undefined || signers === undefined) return undefined;
  return { kind: 'upstream', checksum, checksumSigners, signers };
}

function formatSigner(signer: ProofSigner): string {
  if (signer.kind === 'pgp') return `signed by PGP 0x${signer.fingerprint}`;
  const { identity, source, ref } = signer;
  return `signed by ${identity}${source === undefined ? '' : ` for ${source}`}${ref === undefined ? '' : ` at ${ref}`} (sigstore)`;
}

/** The text of a proof, as locks and records have it: `sha256 list, signed by PGP 0x…; signed by …`. */
export function formatProof(proof: Proof): string {
  if (proof.kind === 'third-party')
    return `third-party pin${proof.from === undefined ? '' : `: ${proof.from}`}${proof.note === undefined ? '' : `${proof.note === 'one source' ? ',' : ';'} ${proof.note}`}`;
  if (proof.kind !== 'upstream') return Object.entries(REGISTRIES).find(([, kind]) => kind === proof.kind)?.[0] ?? '';
  const { checksum, checksumSigners, signers } = proof;
  // `signed by` occurs once, before the signers of the checksums.
  const list = checksumSigners.map(formatSigner).join(', ').replaceAll(', signed by ', ', ');
  const parts = [...(checksum === undefined ? [] : [list === '' ? checksum : `${checksum}, ${list}`]), ...signers.map(formatSigner)];
  return parts.length === 0 ? FIRST_DOWNLOAD : parts.join('; ');
}
