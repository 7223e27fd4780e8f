import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { upstream, type SigstoreSignature } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { fetchVerified } from '../src/verify/verify.ts';
import { shownFile, type ShownFile } from './shown-file.ts';
import { component, openFakeInternet, sha, type FakeInternet } from './fake-internet.ts';
import { IDENTITY, ISSUER, openFakeSigstore, RUN, WORKFLOW, type FakeSigstore, type Run } from './fake-sigstore.ts';

const FILE = 'example.org/v1.2.3/tool';
const REKOR = 'rekor.sigstore.dev/api/v1/log/entries/retrieve';
const content = Buffer.from('the bytes of a tool');
const tampered = Buffer.from('the bytes of a fool');

let internet: FakeInternet;
let sigstore: FakeSigstore;

const signature = (more: Partial<SigstoreSignature> = {}): SigstoreSignature => ({
  kind: 'sigstore',
  issuer: ISSUER,
  identity: IDENTITY,
  trustedRoot: 'root.json',
  bundle: '{url}.sigstore.json',
  ...more,
});
const verify = (by: SigstoreSignature, checksum?: string): Promise<ShownFile> => {
  const origin = upstream('https://example.org/v{version}/tool', { signature: by, ...(checksum === undefined ? {} : { checksum }) });
  return shownFile(fetchVerified(origin, component(origin), 'x86-64', internet.dir, internet.context()));
};
const serveBundle = (bundle: string): unknown => internet.served.set(`${FILE}.sigstore.json`, bundle);

beforeAll(async () => {
  internet = await openFakeInternet();
  sigstore = await openFakeSigstore();
  await writeFile(join(internet.dir, 'root.json'), JSON.stringify(sigstore.root));
});
afterAll(() => internet.close());
beforeEach(() => {
  internet.served.clear();
  internet.served.set(FILE, content);
});

describe('a bundle', () => {
  test('of the file, by the pinned workflow', async () => {
    serveBundle((await sigstore.signBlob(content)).bundle);
    expect(await verify(signature())).toMatchObject({ sha256: sha(content), proof: `signed by ${IDENTITY} (sigstore)` });
    // At any tag, and with the version filled in.
    await verify(signature({ identity: `${WORKFLOW}@*` }));
    await verify(signature({ identity: `${WORKFLOW}@refs/tags/v{version}` }));
  });
  test('of the checksums', async () => {
    const list = Buffer.from(`${sha(content)}  tool\n`);
    internet.served
      .set('example.org/v1.2.3/checksums.txt', list)
      .set('example.org/v1.2.3/checksums.txt.json', (await sigstore.signBlob(list)).bundle);
    const by = signature({ of: 'checksum', bundle: '{checksum}.json' });
    expect((await verify(by, 'checksums.txt')).proof).toBe(`sha256 list, signed by ${IDENTITY} (sigstore)`);
    internet.served.set('example.org/v1.2.3/checksums.txt', `${list.toString()}\n`);
    await expect(verify(by, 'checksums.txt')).rejects.toThrow(/bad sigstore signature/);
  });
  test('a tampered file', async () => {
    serveBundle((await sigstore.signBlob(content)).bundle);
    internet.served.set(FILE, tampered);
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
    await expect(verify(signature())).rejects.toThrow(/not a sigstore bundle/);
  });
  test.each([
    ['another workflow', 'https://github.com/example/fool/.github/workflows/release.yml@refs/tags/v1.2.3'],
    ['a name that the pinned one is only a part of', `${IDENTITY}-evil`],
    ['a name that the pinned one only stands within', `https://evil.example/?${IDENTITY}`],
    ['a name that only a dot as any letter matches', IDENTITY.replace('github.com', 'githubxcom')],
  ])('%s', async (_, name) => {
    serveBundle((await sigstore.signBlob(content, name)).bundle);
    await expect(verify(signature())).rejects.toThrow(/signed by another identity/);
  });
  test('the same name from another issuer', async () => {
    serveBundle((await sigstore.signBlob(content, IDENTITY, 'https://accounts.example.org')).bundle);
    await expect(verify(signature())).rejects.toThrow(/signed by another identity: .*issuer/);
  });
  test('another sigstore, and the public one by default', async () => {
    const { bundle } = await (await openFakeSigstore()).signBlob(content);
    serveBundle(bundle);
    await expect(verify(signature())).rejects.toThrow(/bad sigstore signature/);
    const { trustedRoot: _, ...byPublic } = signature();
    serveBundle((await sigstore.signBlob(content)).bundle);
    await expect(verify(byPublic)).rejects.toThrow(/bad sigstore signature/);
  });
  test('a signature from after the certificate ended', async () => {
    const late = await openFakeSigstore(new Date(Date.now() + 3_600_000));
    await writeFile(join(internet.dir, 'late.json'), JSON.stringify(late.root));
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
    internet.served.set(FILE, tampered);
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
    ['by nobody that the certificate names', {}, /has no source repository/],
    ['for no ref that the certificate names', { 12: source }, /has no source ref/],
  ] as const)('called %s', async (_, run, message) => {
    await serveRun(run);
    await expect(verify(signature(byBuilder))).rejects.toThrow(message);
  });
  test('is trusted for its own repository only, unless the definition names another', async () => {
    await serveRun(RUN);
    await expect(verify(signature({ identity: `${BUILDER}@*` }))).rejects.toThrow(
      /a run of repository .*example\/tool, expected .*builders\/shared/,
    );
    await serveRun({ 12: 'https://github.com/builders/shared', 14: 'refs/tags/v1.2.3' });
    await verify(signature({ identity: `${BUILDER}@*` }));
  });
  test('a good signature of an older version is not one of this', async () => {
    const older = `${WORKFLOW}@refs/tags/v1.2.2`;
    serveBundle((await sigstore.signBlob(content, older, ISSUER, { ...RUN, 6: 'refs/tags/v1.2.2', 14: 'refs/tags/v1.2.2' })).bundle);
    await expect(verify(signature({ identity: `${WORKFLOW}@refs/tags/v{version}` }))).rejects.toThrow(/signed by another identity/);
    // The control: without the version it is taken, which is why such an identity is not a valid definition.
    await verify(signature({ identity: `${WORKFLOW}@*` }));
  });
});

describe('an attestation', () => {
  const subject = [
    { name: 'other', digest: { sha256: sha('other') } },
    { name: 'tool', digest: { sha256: sha(content) } },
  ];

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
    await expect(verify(signature())).rejects.toThrow(/signed by another identity/);
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
    const origin = upstream(`https://${asset}`, { signature: signature({ bundle: 'github' }) });
    const run = (): Promise<ShownFile> => shownFile(fetchVerified(origin, component(origin), 'x86-64', internet.dir, internet.context()));
    internet.served
      .set(asset, content)
      .set(api, JSON.stringify({ attestations: [{ bundle: JSON.parse(await sigstore.attest(subject)), repository_id: 1 }] }));
    expect((await run()).proof).toBe(`signed by ${IDENTITY} (sigstore)`);
    internet.served.set(api, '{"attestations":[]}');
    await expect(run()).rejects.toThrow(/no attestation/);
  });
});

describe('signature and certificate as two files', () => {
  const { bundle: _, ...pair } = signature({ signature: '{url}.sig', certificate: '{url}.cert' });
  type Signed = Awaited<ReturnType<typeof sigstore.signBlob>>;
  const serve = (signed: Signed, log: Signed[] = [signed]): void => {
    internet.served
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
    expect((await verify(pair)).proof).toBe(`signed by ${IDENTITY} (sigstore)`);
    internet.served.set(`${FILE}.cert`, signed.certificate);
    await verify(pair);
  });
  test('a tampered file, a signature of another file, a certificate of another key', async () => {
    const [own, other, more] = [await sigstore.signBlob(content), await sigstore.signBlob(tampered), await sigstore.signBlob(content)];
    serve(own);
    internet.served.set(FILE, tampered);
    await expect(verify(pair)).rejects.toThrow(/bad sigstore signature/);
    internet.served.set(FILE, content);
    serve(other);
    await expect(verify(pair)).rejects.toThrow(/bad sigstore signature/);
    serve(own);
    internet.served.set(`${FILE}.cert`, more.certificate);
    await expect(verify(pair)).rejects.toThrow(/bad sigstore signature/);
    internet.served.set(`${FILE}.cert`, '<html>');
    await expect(verify(pair)).rejects.toThrow(/not a certificate/);
  });
  test('the log does not know it, knows it from somebody else, or does not answer', async () => {
    const signed = await sigstore.signBlob(content);
    serve(signed, []);
    await expect(verify(pair)).rejects.toThrow(/no entry for this signature/);
    const entry = { ...signed.entry, integratedTime: signed.entry.integratedTime - 60 };
    serve(signed, [{ ...signed, entry }]);
    await expect(verify(pair)).rejects.toThrow(/bad sigstore signature/);
    internet.served.set(REKOR, { status: 500 });
    await expect(verify(pair)).rejects.toThrow(/answered 500/);
  });
  test('somebody else', async () => {
    serve(await sigstore.signBlob(content, 'https://github.com/evil/tool'));
    await expect(verify(pair)).rejects.toThrow(/signed by another identity/);
  });
});

test('the trusted root of this repository knows the public sigstore', async () => {
  // The bundle of a release of trailofbits/rfc8785.py, as published; its certificate and logs are checked before the signature.
  serveBundle(await readFile(join(import.meta.dirname, 'fixtures', 'public.sigstore.json'), 'utf8'));
  const { trustedRoot: _, ...byPublic } = signature();
  await expect(verify(byPublic)).rejects.toThrow('bad sigstore signature: signature verification failed');
  await expect(verify(signature())).rejects.toThrow('bad sigstore signature: Failed to verify certificate chain');
});
