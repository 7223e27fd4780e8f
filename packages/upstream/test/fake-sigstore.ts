import { createHash, generateKeyPairSync, sign, type KeyPairKeyObjectResult } from 'node:crypto';
import { bundleToJSON, toDSSEBundle, toMessageSignatureBundle, type Bundle } from '@sigstore/bundle';
import { initializeCA, initializeCTLog, initializeTLog } from '@sigstore/mock';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { toTrustMaterial } from '@sigstore/verify';
import { sha } from './fake-internet.ts';

export const ISSUER = 'https://token.actions.githubusercontent.com';
export const WORKFLOW = 'https://github.com/example/tool/.github/workflows/release.yml';
/** The workflow of the example project, for its version 1.2.3. */
export const IDENTITY = `${WORKFLOW}@refs/tags/v1.2.3`;

/** Extensions of a certificate about the run that signed, by the last number of their OID (sigstore/fulcio docs/oid-info.md). */
export type Run = Readonly<Partial<Record<5 | 6 | 12 | 14, string>>>;
export const RUN: Run = {
  5: 'example/tool',
  6: 'refs/tags/v1.2.3',
  12: 'https://github.com/example/tool',
  14: 'refs/tags/v1.2.3',
};

const ec = (namedCurve = 'P-256'): KeyPairKeyObjectResult => generateKeyPairSync('ec', { namedCurve });
const spki = (pair: KeyPairKeyObjectResult): Buffer<ArrayBuffer> => Buffer.from(pair.publicKey.export({ format: 'der', type: 'spki' }));
const base64 = (data: ArrayBufferView | Buffer): string => Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');

/** A log's entry in the form of its API. */
interface Entry {
  readonly body: string;
  readonly integratedTime: number;
  readonly logID: string;
  readonly logIndex: number;
  readonly verification: {
    readonly signedEntryTimestamp: string;
    readonly inclusionProof: { logIndex: number; treeSize: number; rootHash: string; hashes: string[]; checkpoint: string };
  };
}

/** A sigstore for tests: certificate authority, both logs, and the trusted root that names them. */
export async function openFakeSigstore(clock?: Date) {
  const [caKey, ctKey, logKey] = [ec('P-384'), ec(), ec()];
  const ctLog = await initializeCTLog(ctKey);
  const ca = await initializeCA(caKey, ctLog);
  const log = await initializeTLog('https://rekor.example.org', logKey, clock);
  const since = { start: '2020-01-01T00:00:00Z' };
  const logOf = (pair: KeyPairKeyObjectResult, baseUrl: string): object => ({
    baseUrl,
    hashAlgorithm: 'SHA2_256',
    publicKey: { rawBytes: spki(pair).toString('base64'), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor: since },
    logId: { keyId: createHash('sha256').update(spki(pair)).digest('base64') },
  });
  const root = {
    mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
    tlogs: [logOf(logKey, 'https://rekor.example.org')],
    ctlogs: [logOf(ctKey, 'https://ctlog.example.org')],
    certificateAuthorities: [
      {
        subject: { organization: 'sigstore.mock', commonName: 'sigstore' },
        uri: 'https://fulcio.example.org',
        certChain: { certificates: [{ rawBytes: base64(ca.rootCertificate) }] },
        validFor: since,
      },
    ],
    timestampAuthorities: [],
  };

  const certify = async (key: KeyPairKeyObjectResult, name: string, issuer: string, run: Run): Promise<Buffer> => {
    const oid = (number: number): string => `1.3.6.1.4.1.57264.1.${number}`;
    const extensions = [
      { oid: oid(8), value: issuer },
      ...Object.entries(run).map(([number, value]) => ({ oid: oid(Number(number)), value, legacy: Number(number) < 8 })),
    ];
    const certificate = await ca.issueCertificate({ publicKey: spki(key), subjectAltName: name, extensions });
    return Buffer.from(certificate.buffer, certificate.byteOffset, certificate.byteLength);
  };
  const pem = (der: Buffer): string =>
    `-----BEGIN CERTIFICATE-----\n${der
      .toString('base64')
      .match(/.{1,64}/g)
      ?.join('\n')}\n-----END CERTIFICATE-----\n`;
  const record = async (proposed: object): Promise<Entry> => {
    const [entry] = Object.values((await log.log(proposed)) as Record<string, Entry>);
    if (entry === undefined) throw new Error('the log made no entry');
    return entry;
  };
  const proofOf = ({ verification: { inclusionProof: proof } }: Entry): object => ({
    logIndex: String(proof.logIndex),
    treeSize: String(proof.treeSize),
    rootHash: Buffer.from(proof.rootHash, 'hex'),
    hashes: [],
    checkpoint: { envelope: proof.checkpoint },
  });
  const entryOf = (entry: Entry, kind: string): object => ({
    logIndex: String(entry.logIndex),
    logId: { keyId: Buffer.from(entry.logID, 'hex') },
    kindVersion: { kind, version: '0.0.1' },
    integratedTime: String(entry.integratedTime),
    inclusionPromise: { signedEntryTimestamp: Buffer.from(entry.verification.signedEntryTimestamp, 'base64') },
    inclusionProof: proofOf(entry),
    canonicalizedBody: Buffer.from(entry.body, 'base64'),
  });
  const withEntry = (bundle: Bundle, entry: object): string => {
    (bundle.verificationMaterial.tlogEntries as object[]).push(entry);
    return JSON.stringify(bundleToJSON(bundle));
  };

  return {
    root,
    trust: () => toTrustMaterial(TrustedRoot.fromJSON(root)),
    /** `cosign sign-blob`: what it gives and what the log has of it. */
    async signBlob(data: Buffer, name = IDENTITY, issuer = ISSUER, run = RUN) {
      const key = ec();
      const certificate = await certify(key, name, issuer, run);
      const signature = sign('sha256', data, key.privateKey);
      const entry = await record({
        apiVersion: '0.0.1',
        kind: 'hashedrekord',
        spec: {
          data: { hash: { algorithm: 'sha256', value: sha(data) } },
          signature: { content: signature.toString('base64'), publicKey: { content: Buffer.from(pem(certificate)).toString('base64') } },
        },
      });
      const digest = Buffer.from(sha(data), 'hex');
      const bundle = withEntry(
        toMessageSignatureBundle({ digest, signature, certificate, certificateChain: false }),
        entryOf(entry, 'hashedrekord'),
      );
      return { bundle, signature: signature.toString('base64'), certificate: pem(certificate), entry };
    },
    /** An attestation about some files, as GitHub makes them. */
    async attest(subject: readonly { name: string; digest: { sha256: string } }[], name = IDENTITY): Promise<string> {
      const key = ec();
      const certificate = await certify(key, name, ISSUER, RUN);
      const artifactType = 'application/vnd.in-toto+json';
      const artifact = Buffer.from(
        JSON.stringify({
          _type: 'https://in-toto.io/Statement/v1',
          subject,
          predicateType: 'https://slsa.dev/provenance/v1',
          predicate: {},
        }),
      );
      const pae = Buffer.concat([Buffer.from(`DSSEv1 ${artifactType.length} ${artifactType} ${artifact.length} `), artifact]);
      const signature = sign('sha256', pae, key.privateKey);
      const entry = await record({
        apiVersion: '0.0.1',
        kind: 'dsse',
        spec: {
          envelopeHash: { algorithm: 'sha256', value: sha(artifact) },
          payloadHash: { algorithm: 'sha256', value: sha(artifact) },
          signatures: [{ signature: signature.toString('base64'), verifier: Buffer.from(pem(certificate)).toString('base64') }],
        },
      });
      return withEntry(toDSSEBundle({ artifact, artifactType, signature, certificate, certificateChain: false }), entryOf(entry, 'dsse'));
    },
  };
}

export type FakeSigstore = Awaited<ReturnType<typeof openFakeSigstore>>;
