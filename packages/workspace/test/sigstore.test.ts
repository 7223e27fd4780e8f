import { createHash, generateKeyPairSync, sign, type KeyPairKeyObjectResult } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { release, type Signature, type SigstoreSignature } from '@flatcar/core/engine';
import { bundleToJSON, toDSSEBundle, toMessageSignatureBundle, type Bundle } from '@sigstore/bundle';
import { initializeCA, initializeCTLog, initializeTLog } from '@sigstore/mock';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { toTrustMaterial } from '@sigstore/verify';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { AssetProposal } from '../src/new/propose.ts';
import { proposeSignatures } from '../src/new/signers.ts';
import { fetchVerified, type VerifiedFile } from '@flatcar/upstream/verify/verify';
import { component, openWorld, sha, type World } from '@flatcar/upstream/test/fake-internet';

const FILE = 'example.org/v1.2.3/tool';
const REKOR = 'rekor.sigstore.dev/api/v1/log/entries/retrieve';
const content = Buffer.from('the bytes of a tool');
const tampered = Buffer.from('the bytes of a fool');
const ISSUER = 'https://token.actions.githubusercontent.com';
const WORKFLOW = 'https://github.com/example/tool/.github/workflows/release.yml';
const identity = `${WORKFLOW}@refs/tags/v1.2.3`;

/** Extensions of a certificate about the run that signed, by the last number of their OID (sigstore/fulcio docs/oid-info.md). */
type Run = Readonly<Partial<Record<5 | 6 | 12 | 14, string>>>;
const RUN: Run = {
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

/** A sigstore of one's own: authority, both logs, and the trusted root that names them. */
async function openSigstore(clock?: Date) {
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
    async signBlob(data: Buffer, name = identity, issuer = ISSUER, run = RUN) {
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
      const bundle = withEntry(toMessageSignatureBundle({ digest, signature, certificate, certificateChain: false }), entryOf(entry, 'hashedrekord')); // prettier-ignore
      return { bundle, signature: signature.toString('base64'), certificate: pem(certificate), entry };
    },
    /** An attestation about some files, as GitHub makes them. */
    async attest(subject: readonly { name: string; digest: { sha256: string } }[], name = identity): Promise<string> {
      const key = ec();
      const certificate = await certify(key, name, ISSUER, RUN);
      const artifactType = 'application/vnd.in-toto+json';
      const artifact = Buffer.from(JSON.stringify({ _type: 'https://in-toto.io/Statement/v1', subject, predicateType: 'https://slsa.dev/provenance/v1', predicate: {} })); // prettier-ignore
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

let world: World;
let sigstore: Awaited<ReturnType<typeof openSigstore>>;

const signature = (more: Partial<SigstoreSignature> = {}): SigstoreSignature => ({
  kind: 'sigstore',
  issuer: ISSUER,
  identity,
  trustedRoot: 'root.json',
  bundle: '{url}.sigstore.json',
  ...more,
});
const verify = (by: SigstoreSignature, checksum?: string): Promise<VerifiedFile> => {
  const origin = release('https://example.org/v{version}/tool', { signature: by, ...(checksum === undefined ? {} : { checksum }) });
  return fetchVerified(origin, component(origin), 'x86-64', world.dir, world.context());
};
const serveBundle = (bundle: string): unknown => world.served.set(`${FILE}.sigstore.json`, bundle);

beforeAll(async () => {
  world = await openWorld();
  sigstore = await openSigstore();
  await writeFile(join(world.dir, 'root.json'), JSON.stringify(sigstore.root));
});
afterAll(() => world.close());
beforeEach(() => {
  world.served.clear();
  world.served.set(FILE, content);
});

describe('a bundle', () => {
  test('of the file, by the pinned workflow', async () => {
    serveBundle((await sigstore.signBlob(content)).bundle);
    expect(await verify(signature())).toMatchObject({ sha256: sha(content), proof: `signed by ${identity} (sigstore)` });
    // At any tag, and with the version filled in.
    await verify(signature({ identity: `${WORKFLOW}@*` }));
    await verify(signature({ identity: `${WORKFLOW}@refs/tags/v{version}` }));
  });
  test('of the checksums', async () => {
    const list = Buffer.from(`${sha(content)}  tool\n`);
    world.served
      .set('example.org/v1.2.3/checksums.txt', list)
      .set('example.org/v1.2.3/checksums.txt.json', (await sigstore.signBlob(list)).bundle);
    const by = signature({ of: 'checksum', bundle: '{checksum}.json' });
    expect((await verify(by, 'checksums.txt')).proof).toBe(`sha256 list, signed by ${identity} (sigstore)`);
    world.served.set('example.org/v1.2.3/checksums.txt', `${list.toString()}\n`);
    await expect(verify(by, 'checksums.txt')).rejects.toThrow(/bad sigstore signature/);
  });
  test('a tampered file', async () => {
    serveBundle((await sigstore.signBlob(content)).bundle);
    world.served.set(FILE, tampered);
    await expect(verify(signature())).rejects.toThrow(/bad sigstore signature/);
  });
  test('another file that the same workflow signed', async () => {
    serveBundle((await sigstore.signBlob(tampered)).bundle);
    await expect(verify(signature())).rejects.toThrow(/bad sigstore signature/);
  });
  test('a tampered signature', async () => {
    const [own, other] = [await sigstore.signBlob(content), await sigstore.signBlob(content)];
    serveBundle(own.bundle.replaceAll(own.signature, other.signature));
    await expect(verify(signature())).rejects.toThrow(/bad sigstore signature/);
    serveBundle('{}');
    await expect(verify(signature())).rejects.toThrow(/no sigstore bundle/);
  });
  test.each([
    ['another workflow', 'https://github.com/example/fool/.github/workflows/release.yml@refs/tags/v1.2.3'],
    ['a name that the pinned one is only a part of', `${identity}-evil`],
    ['a name that the pinned one only stands within', `https://evil.example/?${identity}`],
    ['a name that only a dot as any letter matches', identity.replace('github.com', 'githubxcom')],
  ])('%s', async (_, name) => {
    serveBundle((await sigstore.signBlob(content, name)).bundle);
    await expect(verify(signature())).rejects.toThrow(/signed by somebody else/);
  });
  test('the same name vouched for by another issuer', async () => {
    serveBundle((await sigstore.signBlob(content, identity, 'https://accounts.example.org')).bundle);
    await expect(verify(signature())).rejects.toThrow(/signed by somebody else: .*issuer/);
  });
  test('another sigstore, and the public one by default', async () => {
    const { bundle } = await (await openSigstore()).signBlob(content);
    serveBundle(bundle);
    await expect(verify(signature())).rejects.toThrow(/bad sigstore signature/);
    const { trustedRoot: _, ...byPublic } = signature();
    serveBundle((await sigstore.signBlob(content)).bundle);
    await expect(verify(byPublic)).rejects.toThrow(/bad sigstore signature/);
  });
  test('a signature from after the certificate ended', async () => {
    const late = await openSigstore(new Date(Date.now() + 3_600_000));
    await writeFile(join(world.dir, 'late.json'), JSON.stringify(late.root));
    serveBundle((await late.signBlob(content)).bundle);
    await expect(verify(signature({ trustedRoot: 'late.json' }))).rejects.toThrow(/bad sigstore signature/);
  });
  test("the log's word on the time is needed", async () => {
    const bundle = JSON.parse((await sigstore.signBlob(content)).bundle) as { verificationMaterial: { tlogEntries: object[] } };
    bundle.verificationMaterial.tlogEntries = [];
    serveBundle(JSON.stringify(bundle));
    await expect(verify(signature())).rejects.toThrow(/bad sigstore signature/);
  });
  test("cosign's own older form", async () => {
    const { signature: base64Signature, certificate, entry } = await sigstore.signBlob(content);
    const { verification, body, integratedTime, logIndex, logID } = entry;
    const rekorBundle = { SignedEntryTimestamp: verification.signedEntryTimestamp, Payload: { body, integratedTime, logIndex, logID } };
    serveBundle(JSON.stringify({ base64Signature, cert: Buffer.from(certificate).toString('base64'), rekorBundle }));
    await verify(signature());
    world.served.set(FILE, tampered);
    await expect(verify(signature())).rejects.toThrow(/bad sigstore signature/);
  });
});

// The name in a certificate is the workflow's, and a public workflow is called by anybody: whose run it was stands in other extensions.
describe('a workflow that anybody may call', () => {
  const BUILDER = 'https://github.com/builders/shared/.github/workflows/bake.yml';
  const source = 'https://github.com/example/tool';
  const byBuilder = { identity: `${BUILDER}@*`, source, ref: 'refs/tags/v{version}' };
  const serveRun = async (run: Run): Promise<unknown> =>
    serveBundle((await sigstore.signBlob(content, `${BUILDER}@refs/heads/main`, ISSUER, run)).bundle);

  test('called by the project for the version', async () => {
    await serveRun(RUN);
    const proof = `signed by ${BUILDER}@* for ${source} at refs/tags/v1.2.3 (sigstore)`;
    expect((await verify(signature(byBuilder))).proof).toBe(proof);
    // Older authorities write the first two only.
    await serveRun({ 5: 'example/tool', 6: 'refs/tags/v1.2.3' });
    expect((await verify(signature(byBuilder))).proof).toBe(proof);
  });
  test.each([
    [
      'by another project',
      { ...RUN, 5: 'evil/tool', 12: 'https://github.com/evil/tool' },
      /a run of repository https:\/\/github\.com\/evil\/tool/,
    ],
    ['by another project, in the older form', { 5: 'evil/tool', 6: 'refs/tags/v1.2.3' }, /a run of repository .*evil/],
    ['by a project whose name only begins so', { 12: `${source}-evil`, 14: 'refs/tags/v1.2.3' }, /a run of repository .*tool-evil/],
    ['by one that only one of the extensions names', { ...RUN, 12: 'https://github.com/evil/tool' }, /a run of repository .*evil/],
    ['for another version', { 12: source, 14: 'refs/tags/v1.2.2' }, /a run of ref refs\/tags\/v1\.2\.2/],
    ['for a branch that is called as the tag', { 12: source, 14: 'refs/heads/v1.2.3' }, /a run of ref refs\/heads/],
    ['by nobody that the certificate names', {}, /names no source repository/],
    ['for no ref that the certificate names', { 12: source }, /names no source ref/],
  ] as const)('called %s', async (_, run, message) => {
    await serveRun(run);
    await expect(verify(signature(byBuilder))).rejects.toThrow(message);
  });
  test('is believed for its own repository where no other is named', async () => {
    await serveRun(RUN);
    await expect(verify(signature({ identity: `${BUILDER}@*` }))).rejects.toThrow(
      /a run of repository .*example\/tool, and not of .*builders\/shared/,
    );
    await serveRun({ 12: 'https://github.com/builders/shared', 14: 'refs/tags/v1.2.3' });
    await verify(signature({ identity: `${BUILDER}@*` }));
  });
  test('a good signature of an older version is not one of this', async () => {
    const older = `${WORKFLOW}@refs/tags/v1.2.2`;
    serveBundle((await sigstore.signBlob(content, older, ISSUER, { ...RUN, 6: 'refs/tags/v1.2.2', 14: 'refs/tags/v1.2.2' })).bundle);
    await expect(verify(signature({ identity: `${WORKFLOW}@refs/tags/v{version}` }))).rejects.toThrow(/signed by somebody else/);
    // The control: without the version it is taken, which is why such an identity is not a valid definition.
    await verify(signature({ identity: `${WORKFLOW}@*` }));
  });
});

describe('what is proposed', () => {
  const proposal = (): AssetProposal => ({
    asset: 'tool',
    files: { 'x86-64': '', arm64: '' },
    checksum: 'none',
    signatures: [{ kind: 'sigstore', of: 'file', url: '{url}.sigstore.json' }],
  });
  const propose = async (name: string, run: Run, url: string): Promise<{ signatures: Signature[]; notes: string[] }> => {
    const path = join(world.dir, 'proposed');
    await writeFile(path, content);
    world.served.set(`${url.slice('https://'.length)}.sigstore.json`, (await sigstore.signBlob(content, name, ISSUER, run)).bundle);
    return proposeSignatures(
      proposal(),
      { url, path, sha256: sha(content), version: '1.2.3' },
      undefined,
      world.context(),
      sigstore.trust(),
    );
  };
  const url = 'https://github.com/example/tool/releases/download/v1.2.3/tool';
  const BUILDER = 'https://github.com/builders/shared/.github/workflows/bake.yml';

  test('binds the version, and the repository of a workflow that is elsewhere', async () => {
    const { signatures } = await propose(identity, RUN, url);
    expect(signatures).toMatchObject([{ issuer: ISSUER, identity: `${WORKFLOW}@refs/tags/v{version}`, bundle: '{url}.sigstore.json' }]);
    const shared = await propose(`${BUILDER}@refs/heads/main`, RUN, url);
    expect(shared.signatures).toMatchObject([
      { identity: `${BUILDER}@*`, source: 'https://github.com/example/tool', ref: 'refs/tags/v{version}' },
    ]);
  });
  test.each([
    [
      'of another project',
      { ...RUN, 5: 'evil/tool', 12: 'https://github.com/evil/tool' },
      /a run of https:\/\/github\.com\/evil\/tool signed it/,
    ],
    ['for another version', { 12: 'https://github.com/example/tool', 14: 'refs/tags/v1.2.2' }, /does not name version 1\.2\.3/],
  ] as const)('is nothing for a run %s', async (_, run, note) => {
    const { signatures, notes } = await propose(`${BUILDER}@refs/heads/main`, run, url);
    expect(signatures).toEqual([]);
    expect(notes.join('\n')).toMatch(note);
  });
});

describe('an attestation', () => {
  const subject = [{ name: 'other', digest: { sha256: sha('other') } }, { name: 'tool', digest: { sha256: sha(content) } }]; // prettier-ignore

  test('among others, one a line', async () => {
    serveBundle([await sigstore.attest(subject.slice(0, 1)), await sigstore.attest(subject)].join('\n'));
    expect((await verify(signature())).sha256).toBe(sha(content));
  });
  test('about another file', async () => {
    serveBundle(await sigstore.attest(subject.slice(0, 1)));
    await expect(verify(signature())).rejects.toThrow(/not about this file/);
  });
  test('by somebody else', async () => {
    serveBundle(await sigstore.attest(subject, 'https://github.com/evil/tool'));
    await expect(verify(signature())).rejects.toThrow(/signed by somebody else/);
  });
  test('with a tampered statement', async () => {
    const bundle = JSON.parse(await sigstore.attest(subject.slice(0, 1))) as { dsseEnvelope: { payload: string } };
    const payload = Buffer.from(bundle.dsseEnvelope.payload, 'base64').toString().replace(sha('other'), sha(content));
    bundle.dsseEnvelope.payload = Buffer.from(payload).toString('base64');
    serveBundle(JSON.stringify(bundle));
    await expect(verify(signature())).rejects.toThrow(/bad sigstore signature/);
  });
  test('that GitHub keeps', async () => {
    const asset = 'github.com/example/tool/releases/download/v1.2.3/tool';
    const api = `api.github.com/repos/example/tool/attestations/sha256:${sha(content)}`;
    const origin = release(`https://${asset}`, { signature: signature({ bundle: 'github' }) });
    const run = (): Promise<VerifiedFile> => fetchVerified(origin, component(origin), 'x86-64', world.dir, world.context());
    world.served.set(asset, content).set(api, JSON.stringify({ attestations: [{ bundle: JSON.parse(await sigstore.attest(subject)), repository_id: 1 }] })); // prettier-ignore
    expect((await run()).proof).toBe(`signed by ${identity} (sigstore)`);
    world.served.set(api, '{"attestations":[]}');
    await expect(run()).rejects.toThrow(/no attestation/);
  });
});

describe('signature and certificate as two files', () => {
  const { bundle: _, ...pair } = signature({ signature: '{url}.sig', certificate: '{url}.cert' });
  type Signed = Awaited<ReturnType<typeof sigstore.signBlob>>;
  const serve = (signed: Signed, log: Signed[] = [signed]): void => {
    world.served
      .set(`${FILE}.sig`, signed.signature)
      .set(`${FILE}.cert`, Buffer.from(signed.certificate).toString('base64'))
      .set(REKOR, (request, body) => {
        const { entries } = JSON.parse(body) as { entries: [{ spec: { signature: { content: string } } }] };
        const found = log.filter((one) => one.signature === entries[0].spec.signature.content);
        return { status: request.method === 'POST' ? 200 : 405, body: JSON.stringify(found.map(({ entry }) => ({ uuid: entry }))) };
      });
  };

  test('good; the certificate may be PEM or base64 of it', async () => {
    const signed = await sigstore.signBlob(content);
    serve(signed);
    expect((await verify(pair)).proof).toBe(`signed by ${identity} (sigstore)`);
    world.served.set(`${FILE}.cert`, signed.certificate);
    await verify(pair);
  });
  test('a tampered file, a signature of another file, a certificate of another key', async () => {
    const [own, other, more] = [await sigstore.signBlob(content), await sigstore.signBlob(tampered), await sigstore.signBlob(content)];
    serve(own);
    world.served.set(FILE, tampered);
    await expect(verify(pair)).rejects.toThrow(/bad sigstore signature/);
    world.served.set(FILE, content);
    serve(other);
    await expect(verify(pair)).rejects.toThrow(/bad sigstore signature/);
    serve(own);
    world.served.set(`${FILE}.cert`, more.certificate);
    await expect(verify(pair)).rejects.toThrow(/bad sigstore signature/);
    world.served.set(`${FILE}.cert`, '<html>');
    await expect(verify(pair)).rejects.toThrow(/no certificate/);
  });
  test('the log does not know it, knows it from somebody else, or does not answer', async () => {
    const signed = await sigstore.signBlob(content);
    serve(signed, []);
    await expect(verify(pair)).rejects.toThrow(/does not know this signature/);
    const entry = { ...signed.entry, integratedTime: signed.entry.integratedTime - 60 };
    serve(signed, [{ ...signed, entry }]);
    await expect(verify(pair)).rejects.toThrow(/bad sigstore signature/);
    world.served.set(REKOR, { status: 500 });
    await expect(verify(pair)).rejects.toThrow(/answered 500/);
  });
  test('somebody else', async () => {
    serve(await sigstore.signBlob(content, 'https://github.com/evil/tool'));
    await expect(verify(pair)).rejects.toThrow(/signed by somebody else/);
  });
});

test('the trusted root of this repository knows the public sigstore', async () => {
  // The bundle of a release of trailofbits/rfc8785.py, as published; its certificate and logs are checked before the signature.
  serveBundle(await readFile(join(import.meta.dirname, 'fixtures', 'public.sigstore.json'), 'utf8'));
  const { trustedRoot: _, ...byPublic } = signature();
  await expect(verify(byPublic)).rejects.toThrow('bad sigstore signature: signature verification failed');
  await expect(verify(signature())).rejects.toThrow('bad sigstore signature: Failed to verify certificate chain');
});
