import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { checkShape, getJson, jsonObject, messageOf, parseJson, UserError, workflowOf, type SigstoreSignature } from '@flatcar/core/engine';
import { bundleFromJSON, type Bundle } from '@sigstore/bundle';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { toSignedEntity, toTrustMaterial, Verifier, VerificationError, PolicyError, type TrustMaterial } from '@sigstore/verify';
import * as v from 'valibot';
import { MOST_DOCUMENT, type HttpSettings } from '../context.ts';

/** The public log of signatures, for signatures that come without an entry of it. */
const REKOR = 'https://rekor.sigstore.dev';

/** The fields of an entry's body that bundles repeat. */
const LogBody = v.object({ kind: v.string(), apiVersion: v.string() });

/** The subject of an in-toto statement (in-toto attestation, Statement). */
const Statement = v.object({
  subject: v.nullish(v.array(v.object({ name: v.optional(v.string()), digest: v.optional(v.object({ sha256: v.optional(v.string()) })) }))),
});

/** What was signed. */
export interface Artifact {
  readonly bytes: Buffer;
  /** Lowercase hex. */
  readonly sha256: string;
}

/** Who must have signed: as in the definition, with its words filled in. */
export type Signer = Pick<SigstoreSignature, 'issuer' | 'identity' | 'source' | 'ref'>;

/** An entry of the log as its API returns it (sigstore/rekor openapi.yaml, LogEntry). */
const LogEntrySchema = v.object({
  body: v.string(),
  integratedTime: v.number(),
  logID: v.string(),
  logIndex: v.number(),
  verification: v.object({ signedEntryTimestamp: v.string() }),
});
type LogEntry = v.InferOutput<typeof LogEntrySchema>;

/** The keys of sigstore: those of a file, by default the public ones from its TUF repository when they were checked in. */
export async function trustMaterial(file?: string): Promise<TrustMaterial> {
  const where = file ?? new URL('data/sigstore-trusted-root.json', import.meta.url);
  try {
    const text = await readFile(where, 'utf8');
    return toTrustMaterial(TrustedRoot.fromJSON(parseJson(jsonObject, text, { what: 'trusted root', where: String(where) })));
  } catch (cause) {
    throw new UserError(`the trusted root cannot be read: ${messageOf(cause)}`, { where: String(where), cause });
  }
}

/** Matches a whole name, or a prefix that ends in `*`. The library itself would accept a match anywhere, and any letter for a dot. */
function identityPattern(identity: string): RegExp {
  const prefix = identity.endsWith('*');
  const text = prefix ? identity.slice(0, -1) : identity;
  return new RegExp(`^${text.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`)}${prefix ? '' : '$'}`);
}

/**
 * Extensions of Fulcio's certificates (sigstore/fulcio docs/oid-info.md) with the repository and ref of the run that made a signature: the newer
 * two are DER strings; the older two are plain text, without a host, and only of GitHub's workflows.
 */
const FULCIO = '1.3.6.1.4.1.57264.1.';
const [SOURCE, SOURCE_REF, GITHUB_SOURCE, GITHUB_REF] = ['12', '14', '5', '6'].map((number) => FULCIO + number) as [
  string,
  string,
  string,
  string,
];

/** Content of a DER UTF8String (X.690, 8.23), or the plain text of Fulcio's first extensions. */
function extensionText(value: Buffer, isDer: boolean, where: string): string {
  if (!isDer) return value.toString('utf8');
  const short = (value[1] ?? 0) < 0x80;
  const start = short ? 2 : 2 + ((value[1] ?? 0) & 0x7f);
  const size = short ? (value[1] ?? 0) : value.subarray(2, start).reduce((sum, byte) => sum * 256 + byte, 0);
  if (value[0] !== 0x0c || start + size !== value.length) throw new UserError('the certificate has a damaged extension', { where });
  return value.subarray(start).toString('utf8');
}

/** Repository and ref of a run, by each of the extensions that a certificate has. */
interface Run {
  readonly sources: readonly string[];
  readonly refs: readonly string[];
}

/** The run that made a checked signature, from its certificate. */
function runOf({ identity }: ReturnType<Verifier['verify']>, where: string): Run {
  const read = (id: string, isDer: boolean): string[] =>
    (identity?.oids ?? [])
      .filter(({ oid }) => oid?.id.join('.') === id)
      .map(({ value }) => extensionText(Buffer.from(value), isDer, where));
  return {
    sources: [...read(SOURCE, true), ...read(GITHUB_SOURCE, false).map((name) => `https://github.com/${name}`)],
    refs: [...read(SOURCE_REF, true), ...read(GITHUB_REF, false)],
  };
}

/**
 * Refuses a run of another repository, or for another ref. The name in the certificate is that of the workflow, and anybody can call a public
 * workflow: so the run must be of the workflow's own repository unless the definition names another one.
 */
function assertRun({ identity, source, ref }: Signer, { sources, refs }: Run, where: string): void {
  const next = 'do not pin this: somebody else ran the workflow, or `source` and `ref` in the definition are wrong';
  for (const [what, wanted, given] of [
    ['repository', source ?? workflowOf(identity)?.repository, sources],
    ['ref', ref, refs],
  ] as const) {
    if (wanted === undefined) continue;
    if (given.length === 0) throw new UserError(`the certificate has no source ${what}`, { where, next });
    const other = given.find((one) => one !== wanted);
    if (other !== undefined) throw new UserError(`signed by a run of ${what} ${other}, expected ${wanted}`, { where, next });
  }
}

/** Refuses a statement about other files (in-toto Statement: `subject[].digest.sha256`). */
function assertSubject(payload: Buffer, sha256: string, where: string): void {
  const { subject } = parseJson(Statement, payload.toString('utf8'), { what: 'attestation', where });
  if (subject?.some(({ digest }) => digest?.sha256 === sha256) === true) return;
  throw new UserError(`the attestation is not about this file (sha256 ${sha256})`, {
    where,
    next: `it is about ${(subject ?? []).map(({ name }) => name).join(', ') || 'nothing'}`,
  });
}

/** Checks one bundle: the certificate and its log, the signature and its log, who signed, and what. */
export function verifyBundle(bundle: Bundle, artifact: Artifact, signer: Signer, trust: TrustMaterial, where: string): void {
  const next = 'do not pin this: upstream changed how it signs, or the file was modified on the way';
  try {
    const signed = new Verifier(trust).verify(toSignedEntity(bundle, artifact.bytes), {
      subjectAlternativeName: identityPattern(signer.identity),
      extensions: { issuer: signer.issuer },
    });
    assertRun(signer, runOf(signed, where), where);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    if (!(cause instanceof VerificationError || cause instanceof PolicyError))
      throw new UserError(`the sigstore bundle is damaged: ${messageOf(cause)}`, { where, next, cause });
    const what = cause instanceof PolicyError ? 'signed by another identity' : 'bad sigstore signature';
    throw new UserError(`${what}: ${cause.message}`, { where, next, cause });
  }
  if (bundle.content.$case === 'dsseEnvelope') assertSubject(bundle.content.dsseEnvelope.payload, artifact.sha256, where);
}

/** Reads a PEM certificate, or base64 of one, as cosign writes it. */
function readCertificate(text: string, where: string): X509Certificate {
  try {
    return new X509Certificate(text.includes('-----BEGIN') ? text : Buffer.from(text, 'base64'));
  } catch (cause) {
    throw new UserError(`not a certificate: ${messageOf(cause)}`, { where, cause });
  }
}

/** A bundle of a signature, its certificate, and the log's entry for both. */
function assemble(signature: string, certificate: X509Certificate, entry: LogEntry, sha256: string): Bundle {
  const body = Buffer.from(entry.body, 'base64').toString('utf8');
  const { kind, apiVersion } = parseJson(LogBody, body, { what: 'entry of the log', where: REKOR });
  return bundleFromJSON({
    mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.1',
    verificationMaterial: {
      x509CertificateChain: { certificates: [{ rawBytes: certificate.raw.toString('base64') }] },
      tlogEntries: [
        {
          logIndex: String(entry.logIndex),
          logId: { keyId: Buffer.from(entry.logID, 'hex').toString('base64') },
          kindVersion: { kind, version: apiVersion },
          integratedTime: String(entry.integratedTime),
          inclusionPromise: { signedEntryTimestamp: entry.verification.signedEntryTimestamp },
          canonicalizedBody: entry.body,
        },
      ],
    },
    messageSignature: { messageDigest: { algorithm: 'SHA2_256', digest: Buffer.from(sha256, 'hex').toString('base64') }, signature },
  });
}

/** cosign's own older bundle (`cosign sign-blob --bundle` before 3.0). */
const CosignBundle = v.object({
  base64Signature: v.string(),
  cert: v.string(),
  rekorBundle: v.object({
    SignedEntryTimestamp: v.string(),
    Payload: v.object({ body: v.string(), integratedTime: v.number(), logIndex: v.number(), logID: v.string() }),
  }),
});

function readBundle(text: string, sha256: string, where: string): Bundle {
  try {
    const about = { what: 'sigstore bundle', where };
    const json = parseJson(jsonObject, text, about);
    if (!('base64Signature' in json)) return bundleFromJSON(json);
    const { base64Signature, cert, rekorBundle } = parseJson(CosignBundle, text, about);
    const { SignedEntryTimestamp: signedEntryTimestamp, Payload } = rekorBundle;
    return assemble(base64Signature, readCertificate(cert, where), { ...Payload, verification: { signedEntryTimestamp } }, sha256);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError(`not a sigstore bundle: ${messageOf(cause)}`, { where, cause });
  }
}

/** The bundles in a file: one per line, unless the file is one JSON document. */
function bundlesIn(text: string): string[] {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  return lines.length > 1 && lines.every((line) => line.startsWith('{') && line.trimEnd().endsWith('}')) ? lines : [text];
}

/** Checks a file of one bundle, or of several (one per line): one of them must be good. Throws the first problem otherwise. */
export function verifyBundles(text: string, artifact: Artifact, signer: Signer, trust: TrustMaterial, where: string): void {
  const problems: unknown[] = [];
  for (const one of bundlesIn(text)) {
    try {
      verifyBundle(readBundle(one, artifact.sha256, where), artifact, signer, trust, where);
      return;
    } catch (error) {
      problems.push(error);
    }
  }
  throw problems[0];
}

/** Who signed a file, by the first good bundle of a text: to propose a signer for a definition, never to check one. */
export function signerOf(text: string, artifact: Artifact, trust: TrustMaterial, where: string): Signer {
  const problems: unknown[] = [];
  for (const one of bundlesIn(text)) {
    try {
      const bundle = readBundle(one, artifact.sha256, where);
      const signed = new Verifier(trust).verify(toSignedEntity(bundle, artifact.bytes));
      const { identity } = signed;
      if (bundle.content.$case === 'dsseEnvelope') assertSubject(bundle.content.dsseEnvelope.payload, artifact.sha256, where);
      if (identity?.subjectAlternativeName === undefined || identity.extensions?.issuer === undefined)
        throw new UserError('the certificate has no identity', { where });
      const { sources, refs } = runOf(signed, where);
      return { issuer: identity.extensions.issuer, identity: identity.subjectAlternativeName, source: sources[0], ref: refs[0] };
    } catch (error) {
      problems.push(error);
    }
  }
  throw new UserError(`bad sigstore bundle: ${messageOf(problems[0])}`, { where, cause: problems[0] });
}

/**
 * Checks a signature and a certificate that are two files. The certificate is valid for minutes, so the time of the signature comes from the
 * log's entry. Throws an UnreachableError if the log does not answer.
 */
export async function verifyPair(
  files: { readonly signature: string; readonly certificate: string },
  artifact: Artifact,
  signer: Signer,
  trust: TrustMaterial,
  http: HttpSettings & { readonly where: string },
): Promise<void> {
  const { where, mirror, signal, pause } = http;
  const signature = files.signature.trim();
  const certificate = readCertificate(files.certificate, where);
  const content = Buffer.from(certificate.toString()).toString('base64');
  const proposed = {
    apiVersion: '0.0.1',
    kind: 'hashedrekord',
    spec: { data: { hash: { algorithm: 'sha256', value: artifact.sha256 } }, signature: { content: signature, publicKey: { content } } },
  };
  const url = `${REKOR}/api/v1/log/entries/retrieve`;
  const { json } = await getJson(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: () => JSON.stringify({ entries: [proposed] }),
    idempotent: true, // a query
    mirror,
    signal,
    pause,
    max: MOST_DOCUMENT,
  });
  const entries = checkShape(v.array(v.record(v.string(), LogEntrySchema)), json, url).flatMap((one) => Object.values(one));
  if (entries.length === 0)
    throw new UserError('the sigstore log has no entry for this signature', {
      where,
      next: 'do not pin this: file, signature and certificate do not match each other',
    });
  const problems: unknown[] = [];
  for (const entry of entries) {
    try {
      verifyBundle(assemble(signature, certificate, entry, artifact.sha256), artifact, signer, trust, where);
      return;
    } catch (error) {
      problems.push(error instanceof UserError ? error : new UserError(`bad log entry: ${messageOf(error)}`, { where, cause: error }));
    }
  }
  throw problems[0];
}
