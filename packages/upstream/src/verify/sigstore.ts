import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { getJson, jsonObject, messageOf, parseJson, UserError, workflowOf, type SigstoreSignature } from '@flatcar/core/engine';
import { bundleFromJSON, type Bundle } from '@sigstore/bundle';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { toSignedEntity, toTrustMaterial, Verifier, VerificationError, PolicyError, type TrustMaterial } from '@sigstore/verify';
import * as v from 'valibot';
import { MOST_DOCUMENT, type HttpSettings } from '../context.ts';

/** The public log of signatures, for those that came without the log's own word on their time. */
const REKOR = 'https://rekor.sigstore.dev';

/** The body of an entry, as far as bundles name it. */
const LogBody = v.object({ kind: v.string(), apiVersion: v.string() });

/** An in-toto statement, as far as it names what it is about (in-toto attestation, Statement). */
const Statement = v.object({
  subject: v.nullish(v.array(v.object({ name: v.optional(v.string()), digest: v.optional(v.object({ sha256: v.optional(v.string()) })) }))),
});

/** What was signed. */
export interface Artifact {
  readonly bytes: Buffer;
  /** Lowercase hex. */
  readonly sha256: string;
}

/** Who must have signed: as a definition says it, with its words filled in. */
export type Signer = Pick<SigstoreSignature, 'issuer' | 'identity' | 'source' | 'ref'>;

/** An entry of the log as its API gives it (sigstore/rekor openapi.yaml, LogEntry). */
interface LogEntry {
  readonly body: string;
  readonly integratedTime: number;
  readonly logID: string;
  readonly logIndex: number;
  readonly verification: { readonly signedEntryTimestamp: string };
}

/** The keys of sigstore: the public ones, as its TUF repository had them when they were checked in, or those of a file. */
export async function trustMaterial(file?: string): Promise<TrustMaterial> {
  const where = file ?? new URL('data/sigstore-trusted-root.json', import.meta.url);
  try {
    const text = await readFile(where, 'utf8');
    return toTrustMaterial(TrustedRoot.fromJSON(parseJson(jsonObject, text, { what: 'trusted root', where: String(where) })));
  } catch (cause) {
    throw new UserError(`the trusted root cannot be read: ${messageOf(cause)}`, { where: String(where), cause });
  }
}

/** A name matches whole, or by its beginning: the library would take any match within, and dots as any letter. */
function identityPattern(identity: string): RegExp {
  const prefix = identity.endsWith('*');
  const text = prefix ? identity.slice(0, -1) : identity;
  return new RegExp(`^${text.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`)}${prefix ? '' : '$'}`);
}

/**
 * Extensions of Fulcio's certificates (sigstore/fulcio docs/oid-info.md) that tell whose run made a signature: the source repository and its ref,
 * which are DER strings, and the older pair of GitHub's workflows, which are plain text and have no host.
 */
const FULCIO = '1.3.6.1.4.1.57264.1.';
const [SOURCE, SOURCE_REF, GITHUB_SOURCE, GITHUB_REF] = ['12', '14', '5', '6'].map((number) => FULCIO + number) as [
  string,
  string,
  string,
  string,
];

/** Content of a DER UTF8String (X.690, 8.23), or the plain text that Fulcio's first extensions have. */
function extensionText(value: Buffer, isDer: boolean, where: string): string {
  if (!isDer) return value.toString('utf8');
  const short = (value[1] ?? 0) < 0x80;
  const start = short ? 2 : 2 + ((value[1] ?? 0) & 0x7f);
  const size = short ? (value[1] ?? 0) : value.subarray(2, start).reduce((sum, byte) => sum * 256 + byte, 0);
  if (value[0] !== 0x0c || start + size !== value.length) throw new UserError('the certificate has a damaged extension', { where });
  return value.subarray(start).toString('utf8');
}

/** Repository and ref that a run was for, by each of the extensions that a certificate has. */
interface Run {
  readonly sources: readonly string[];
  readonly refs: readonly string[];
}

/** What the certificate of a checked signature says of the run that made it. */
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
 * Refuses a run of another repository, or for another ref. The name in the certificate is that of the workflow: one that is public is called by
 * anybody, so a workflow is believed for its own repository unless the definition names another.
 */
function assertRun({ identity, source, ref }: Signer, { sources, refs }: Run, where: string): void {
  const next = 'do not pin this: somebody else ran the workflow, or `source` and `ref` in the definition are wrong';
  for (const [what, wanted, given] of [
    ['repository', source ?? workflowOf(identity)?.repository, sources],
    ['ref', ref, refs],
  ] as const) {
    if (wanted === undefined) continue;
    if (given.length === 0) throw new UserError(`the certificate names no source ${what}`, { where, next });
    const other = given.find((one) => one !== wanted);
    if (other !== undefined)
      throw new UserError(`signed by somebody else: a run of ${what} ${other}, and not of ${wanted}`, { where, next });
  }
}

/** Refuses a statement that is about other files (in-toto Statement: `subject[].digest.sha256`). */
function assertSubject(payload: Buffer, sha256: string, where: string): void {
  const { subject } = parseJson(Statement, payload.toString('utf8'), { what: 'attestation', where });
  if (subject?.some(({ digest }) => digest?.sha256 === sha256) === true) return;
  throw new UserError(`the attestation is not about this file (sha256 ${sha256})`, {
    where,
    next: `it is about ${(subject ?? []).map(({ name }) => name).join(', ') || 'nothing'}`,
  });
}

/** Checks one bundle: certificate, its log, the signature's log, the signature, who signed, and what. */
export function verifyBundle(bundle: Bundle, artifact: Artifact, signer: Signer, trust: TrustMaterial, where: string): void {
  const next = 'do not pin this: upstream signs otherwise now, or something on the way changed the file';
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
    const what = cause instanceof PolicyError ? 'signed by somebody else' : 'bad sigstore signature';
    throw new UserError(`${what}: ${cause.message}`, { where, next, cause });
  }
  if (bundle.content.$case === 'dsseEnvelope') assertSubject(bundle.content.dsseEnvelope.payload, artifact.sha256, where);
}

/** A PEM certificate; cosign writes it as base64 of PEM. */
function readCertificate(text: string, where: string): X509Certificate {
  try {
    return new X509Certificate(text.includes('-----BEGIN') ? text : Buffer.from(text, 'base64'));
  } catch (cause) {
    throw new UserError(`this is no certificate: ${messageOf(cause)}`, { where, cause });
  }
}

/** Puts together what came in several files: signature, certificate, and the log's entry for both. */
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
    throw new UserError(`this is no sigstore bundle: ${messageOf(cause)}`, { where, cause });
  }
}

/** Checks a bundle file: one bundle, or several (one a line), of which one must be good. */
export function verifyBundles(text: string, artifact: Artifact, signer: Signer, trust: TrustMaterial, where: string): void {
  const lines = text
    .trim()
    .split('\n')
    .filter((line) => line.trim() !== '');
  const several = lines.length > 1 && lines.every((line) => line.startsWith('{') && line.trimEnd().endsWith('}'));
  const problems: unknown[] = [];
  for (const one of several ? lines : [text]) {
    try {
      verifyBundle(readBundle(one, artifact.sha256, where), artifact, signer, trust, where);
      return;
    } catch (error) {
      problems.push(error);
    }
  }
  throw problems[0];
}

/** Who signed a file, by the first good bundle of a text; for proposing whom a definition should ask for, never for checking it. */
export function signerOf(text: string, artifact: Artifact, trust: TrustMaterial, where: string): Signer {
  const lines = text.trim().split('\n');
  const several = lines.length > 1 && lines.every((line) => line.trim() === '' || (line.startsWith('{') && line.trimEnd().endsWith('}')));
  const problems: unknown[] = [];
  for (const one of several ? lines : [text]) {
    try {
      const bundle = readBundle(one, artifact.sha256, where);
      const signed = new Verifier(trust).verify(toSignedEntity(bundle, artifact.bytes));
      const { identity } = signed;
      if (bundle.content.$case === 'dsseEnvelope') assertSubject(bundle.content.dsseEnvelope.payload, artifact.sha256, where);
      if (identity?.subjectAlternativeName === undefined || identity.extensions?.issuer === undefined)
        throw new UserError('the certificate names nobody', { where });
      const { sources, refs } = runOf(signed, where);
      return { issuer: identity.extensions.issuer, identity: identity.subjectAlternativeName, source: sources[0], ref: refs[0] };
    } catch (error) {
      problems.push(error);
    }
  }
  throw new UserError(`the sigstore bundle is not good: ${messageOf(problems[0])}`, { where, cause: problems[0] });
}

/**
 * Checks a signature and a certificate that came as two files. The certificate was good for minutes only, so the log must say when
 * it saw the signature: it is asked for its entry. Throws UnreachableError when it cannot be.
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
    idempotent: true, // a question
    mirror,
    signal,
    pause,
    max: MOST_DOCUMENT,
  });
  const entries = (Array.isArray(json) ? json : []).flatMap((one: Record<string, LogEntry>) => Object.values(one));
  if (entries.length === 0)
    throw new UserError('the log of sigstore does not know this signature', {
      where,
      next: 'do not pin this: file, signature and certificate do not belong together',
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
