import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { messageOf, UserError, type SigstoreSignature } from '@flatcar/core';
import { bundleFromJSON, type Bundle } from '@sigstore/bundle';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { toSignedEntity, toTrustMaterial, Verifier, VerificationError, PolicyError, type TrustMaterial } from '@sigstore/verify';
import { askJson, type Asking } from './http.ts';

/** The public log of signatures, for those that came without the log's own word on their time. */
const REKOR = 'https://rekor.sigstore.dev';

/** What was signed. */
export interface Artifact {
  readonly bytes: Buffer;
  /** Lowercase hex. */
  readonly sha256: string;
}

/** Who must have signed. */
export type Signer = Pick<SigstoreSignature, 'issuer' | 'identity'>;

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
    return toTrustMaterial(TrustedRoot.fromJSON(JSON.parse(await readFile(where, 'utf8'))));
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

/** Refuses a statement that is about other files (in-toto Statement: `subject[].digest.sha256`). */
function assertSubject(payload: Buffer, sha256: string, where: string): void {
  const { subject } = JSON.parse(payload.toString('utf8')) as { subject?: readonly { name?: string; digest?: { sha256?: string } }[] };
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
    new Verifier(trust).verify(toSignedEntity(bundle, artifact.bytes), {
      subjectAlternativeName: identityPattern(signer.identity),
      extensions: { issuer: signer.issuer },
    });
  } catch (cause) {
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
  const { kind, apiVersion } = JSON.parse(Buffer.from(entry.body, 'base64').toString('utf8')) as { kind: string; apiVersion: string };
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
interface CosignBundle {
  readonly base64Signature: string;
  readonly cert: string;
  readonly rekorBundle: {
    readonly SignedEntryTimestamp: string;
    readonly Payload: { readonly body: string; readonly integratedTime: number; readonly logIndex: number; readonly logID: string };
  };
}

function readBundle(text: string, sha256: string, where: string): Bundle {
  try {
    const json = JSON.parse(text) as object;
    if (!('base64Signature' in json)) return bundleFromJSON(json);
    const { base64Signature, cert, rekorBundle } = json as CosignBundle;
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
      const { identity } = new Verifier(trust).verify(toSignedEntity(bundle, artifact.bytes));
      if (bundle.content.$case === 'dsseEnvelope') assertSubject(bundle.content.dsseEnvelope.payload, artifact.sha256, where);
      if (identity?.subjectAlternativeName === undefined || identity.extensions?.issuer === undefined)
        throw new UserError('the certificate names nobody', { where });
      return { issuer: identity.extensions.issuer, identity: identity.subjectAlternativeName };
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
  asking: Asking & { readonly where: string },
): Promise<void> {
  const { where } = asking;
  const signature = files.signature.trim();
  const certificate = readCertificate(files.certificate, where);
  const content = Buffer.from(certificate.toString()).toString('base64');
  const proposed = {
    apiVersion: '0.0.1',
    kind: 'hashedrekord',
    spec: { data: { hash: { algorithm: 'sha256', value: artifact.sha256 } }, signature: { content: signature, publicKey: { content } } },
  };
  const url = `${REKOR}/api/v1/log/entries/retrieve`;
  const { json } = await askJson(url, { ...asking, body: { entries: [proposed] } });
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
