import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { upstream, UnreachableError, type PgpSignature, type UpstreamOrigin } from '@flatcar/core/engine';
import * as openpgp from 'openpgp';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { fetchVerified } from '../src/verify/verify.ts';
import { shownFile, type ShownFile } from './shown-file.ts';
import { component, openFakeInternet, sha, type FakeInternet } from './fake-internet.ts';

const FILE = 'example.org/v1.2.3/tool-amd64.tgz';
const content = Buffer.from('the bytes of a tool');
const tampered = Buffer.from('the bytes of a fool');

let internet: FakeInternet;
let key: openpgp.PrivateKey;
let stranger: openpgp.PrivateKey;
let expired: openpgp.PrivateKey;
let revoked: openpgp.PublicKey;

const newKey = async (options: object = {}): Promise<openpgp.PrivateKey> =>
  (await openpgp.generateKey({ type: 'ecc', userIDs: [{ name: 'A Tool' }], format: 'object', ...options })).privateKey;
const keyFile = (name: string, ...keys: openpgp.Key[]): Promise<void> =>
  writeFile(join(internet.dir, name), keys.map((one) => one.toPublic().armor()).join('\n'));

async function detached(data: Buffer, by = key, options: object = {}): Promise<string> {
  return (await openpgp.sign({
    message: await openpgp.createMessage({ binary: data }),
    signingKeys: by,
    detached: true,
    ...options,
  })) as string;
}
const clearsigned = async (text: string, by = key): Promise<string> =>
  openpgp.sign({ message: await openpgp.createCleartextMessage({ text }), signingKeys: by });

const verify = (options: Parameters<typeof upstream>[1]): Promise<ShownFile> => {
  const origin: UpstreamOrigin = upstream('https://example.org/v{version}/tool-{arch}.tgz', options);
  return shownFile(fetchVerified(origin, component(origin), 'x86-64', internet.dir, internet.context()));
};
const pgp = (more: Partial<PgpSignature> = {}): PgpSignature => ({
  kind: 'pgp',
  keys: 'tool.asc',
  fingerprints: [key.getFingerprint()],
  url: '{url}.asc',
  ...more,
});

beforeAll(async () => {
  internet = await openFakeInternet();
  key = await newKey();
  stranger = await newKey();
  const long = new Date(Date.now() - 86_400_000 * 30);
  expired = await newKey({ date: long, keyExpirationTime: 86_400 });
  revoked = (
    await openpgp.revokeKey({ key, reasonForRevocation: { flag: openpgp.enums.reasonForRevocation.keyCompromised }, format: 'object' })
  ).publicKey;
  await keyFile('tool.asc', key);
});
afterAll(() => internet.close());
beforeEach(async () => {
  internet.served.clear();
  internet.served.set(FILE, content);
  await rm(join(internet.dir, 'store', 'blobs'), { recursive: true, force: true });
});

describe('a checksum beside the file', () => {
  test('bare sha256, for each architecture its own', async () => {
    internet.served.set(`${FILE}.sha256`, sha(content));
    expect(await verify({ checksum: '{url}.sha256' })).toMatchObject({
      url: `https://${FILE}`,
      sha256: sha(content),
      size: content.length,
      proof: 'sha256 file',
    });
    const arm = 'example.org/v1.2.3/tool-arm64.tgz';
    internet.served.set(arm, tampered).set(`${arm}.sha256`, sha(tampered));
    const origin = upstream('https://example.org/v{version}/tool-{arch}.tgz', { checksum: '{url}.sha256' });
    expect(await fetchVerified(origin, component(origin), 'arm64', internet.dir, internet.context())).toMatchObject({
      sha256: sha(tampered),
    });
  });
  test('a list in the same folder, asked for once', async () => {
    internet.served.set('example.org/v1.2.3/SHA256SUMS', `${sha(tampered)}  other\n${sha(content)} *tool-amd64.tgz\n`);
    expect(await verify({ checksum: 'SHA256SUMS' })).toMatchObject({ sha256: sha(content), proof: 'sha256 list' });
  });
  test('sha512', async () => {
    internet.served.set(`${FILE}.sha512`, `${sha(content, 'sha512')}  tool-amd64.tgz`);
    expect(await verify({ checksum: '{url}.sha512' })).toMatchObject({ sha256: sha(content), proof: 'sha512 list' });
  });
  test('nothing published', async () => {
    expect(await verify({})).toMatchObject({ sha256: sha(content), proof: 'nothing published: as first downloaded' });
  });
  test('a tampered file is refused and not kept', async () => {
    internet.served.set(FILE, tampered).set(`${FILE}.sha256`, sha(content)).set(`${FILE}.sha512`, sha(content, 'sha512'));
    await expect(verify({ checksum: '{url}.sha256' })).rejects.toThrow(/not match the hash published upstream \(sha256 file\)/);
    expect(await internet.context().store.blob(sha(content))).toBeUndefined();
    await expect(verify({ checksum: '{url}.sha512' })).rejects.toThrow(/not match the hash published upstream \(sha512 file\)/);
  });
  test('a tampered list is refused', async () => {
    internet.served.set('example.org/v1.2.3/SHA256SUMS', `${sha(tampered)}  tool-amd64.tgz\n`);
    await expect(verify({ checksum: 'SHA256SUMS' })).rejects.toThrow(/not match the hash published upstream/);
  });
  test('a list without end is not read to its end; a long one is', async () => {
    const line = `${sha(tampered)}  ${'x'.repeat(60)}`;
    const own = `${sha(content)}  tool-amd64.tgz\n`;
    internet.served.set('example.org/v1.2.3/SHA256SUMS', own + `${line}\n`.repeat(50_000));
    expect(await verify({ checksum: 'SHA256SUMS' })).toMatchObject({ sha256: sha(content) });
    internet.served.set('example.org/v1.2.3/SHA256SUMS', own + `${line}\n`.repeat(100_000));
    await expect(verify({ checksum: 'SHA256SUMS' })).rejects.toMatchObject({ code: 'too-large' });
  });
  test('a missing list, or one without the file, is an error', async () => {
    await expect(verify({ checksum: '{url}.sha256' })).rejects.toThrow(/answered 404/);
    internet.served.set(`${FILE}.sha256`, `${sha(content)}  other`);
    await expect(verify({ checksum: '{url}.sha256' })).rejects.toThrow(/no entry for tool-amd64\.tgz/);
  });
  test('a host that does not answer has an error of its own', async () => {
    const origin = upstream('https://example.org/tool', { checksum: '{url}.sha256' });
    const dead = { ...internet.context(), mirror: 'http://127.0.0.1:9' };
    await expect(fetchVerified(origin, component(origin), 'x86-64', internet.dir, dead)).rejects.toThrow(UnreachableError);
  });
  test('an unknown word in a URL is an error', async () => {
    await expect(verify({ checksum: '{ulr}.sha256' })).rejects.toThrow(/unknown word \{ulr\}/);
  });
});

describe('a PGP signature of the file', () => {
  test('armored and binary', async () => {
    internet.served.set(`${FILE}.asc`, await detached(content));
    const proof = `signed by PGP 0x${key.getFingerprint().toUpperCase()}`;
    expect(await verify({ signature: pgp() })).toMatchObject({ sha256: sha(content), proof });
    internet.served.set(`${FILE}.sig`, Buffer.from(await detached(content, key, { format: 'binary' })));
    expect(await verify({ signature: pgp({ url: '{url}.sig' }) })).toMatchObject({ proof });
  });
  test('several, and a checksum: all must be good', async () => {
    internet.served
      .set(`${FILE}.asc`, await detached(content))
      .set(`${FILE}.sha256`, sha(content))
      .set(`${FILE}.sig`, await detached(content, stranger));
    await keyFile('stranger.asc', stranger);
    const second = pgp({ url: '{url}.sig', keys: 'stranger.asc', fingerprints: [stranger.getFingerprint()] });
    const both = { checksum: '{url}.sha256', signature: [pgp(), second] };
    expect((await verify(both)).proof).toMatch(/^sha256 file; signed by PGP 0x[0-9A-F]{40}; signed by PGP 0x[0-9A-F]{40}$/);
    internet.served.set(`${FILE}.sig`, await detached(tampered, stranger));
    await expect(verify(both)).rejects.toThrow(/bad PGP signature/);
  });
  test('a tampered file', async () => {
    internet.served.set(`${FILE}.asc`, await detached(tampered));
    await expect(verify({ signature: pgp() })).rejects.toThrow(/bad PGP signature/);
  });
  test('a tampered signature', async () => {
    const signature = Buffer.from(await detached(content, key, { format: 'binary' }));
    signature[signature.length - 3]! ^= 1;
    internet.served.set(`${FILE}.asc`, signature);
    await expect(verify({ signature: pgp() })).rejects.toThrow(/bad PGP signature/);
    internet.served.set(`${FILE}.asc`, '<html>');
    await expect(verify({ signature: pgp() })).rejects.toThrow(/not a PGP signature/);
  });
  test('another key, even if it is in the key file but not pinned', async () => {
    internet.served.set(`${FILE}.asc`, await detached(content, stranger));
    await expect(verify({ signature: pgp() })).rejects.toThrow(/which is not pinned/);
    await keyFile('two.asc', key, stranger);
    await expect(verify({ signature: pgp({ keys: 'two.asc' }) })).rejects.toThrow(/which is not pinned/);
    expect((await verify({ signature: pgp({ keys: 'two.asc', fingerprints: [stranger.getFingerprint()] }) })).proof).toMatch(
      /signed by PGP/,
    );
  });
  test('a key that is not in the file, short ids, no fingerprint', async () => {
    internet.served.set(`${FILE}.asc`, await detached(content));
    await expect(verify({ signature: pgp({ fingerprints: [stranger.getFingerprint()] }) })).rejects.toThrow(/key file has no key/);
    await expect(verify({ signature: pgp({ fingerprints: [key.getFingerprint().slice(-16)] }) })).rejects.toThrow(
      /not a whole fingerprint/,
    );
    await expect(verify({ signature: pgp({ fingerprints: [] }) })).rejects.toThrow(/no fingerprint/);
    await expect(verify({ signature: pgp({ keys: 'absent.asc' }) })).rejects.toThrow(/key file is missing/);
  });
  test('an expired key, though the signature was made in its time', async () => {
    await keyFile('expired.asc', expired);
    internet.served.set(`${FILE}.asc`, await detached(content, expired, { date: new Date(Date.now() - 86_400_000 * 29.5) }));
    const options = { signature: pgp({ keys: 'expired.asc', fingerprints: [expired.getFingerprint()] }) };
    await expect(verify(options)).rejects.toThrow(/expired on \d{4}-\d\d-\d\d/);
  });
  test('a subkey of the pinned key: the proof names the pinned key', async () => {
    const withSubkey = await newKey({ subkeys: [{ sign: true }] });
    await keyFile('subkey.asc', withSubkey);
    const { subkeys } = withSubkey;
    internet.served.set(`${FILE}.asc`, await detached(content, withSubkey, { signingKeyIDs: [subkeys[0]?.getKeyID()] }));
    const { proof } = await verify({ signature: pgp({ keys: 'subkey.asc', fingerprints: [withSubkey.getFingerprint()] }) });
    expect(proof).toBe(`signed by PGP 0x${withSubkey.getFingerprint().toUpperCase()}`);
  });
  test("a signature of the future: this machine's clock is wrong", async () => {
    const date = new Date(Date.now() + 30 * 86_400_000);
    internet.served.set(`${FILE}.asc`, await detached(content, undefined, { date }));
    await expect(verify({ signature: pgp() })).rejects.toThrow(/it was signed at \d{4}-.*this machine's clock reads/);
  });
  test('a revoked key', async () => {
    await writeFile(join(internet.dir, 'revoked.asc'), revoked.armor());
    internet.served.set(`${FILE}.asc`, await detached(content));
    await expect(verify({ signature: pgp({ keys: 'revoked.asc' }) })).rejects.toThrow(/is revoked/);
  });
});

// gpg says the same of each of these: a key that has ended signs nothing more, and whoever has it can write any date.
describe('a key that has ended, by a signature that claims to be older', () => {
  const past = new Date(Date.now() - 86_400_000 * 30);
  const old = (options: object = {}): Promise<openpgp.PrivateKey> => newKey({ date: past, ...options });
  const reason = openpgp.enums.reasonForRevocation;
  const check = async (signer: openpgp.PrivateKey, published: openpgp.Key = signer): Promise<ShownFile> => {
    await keyFile('old.asc', published);
    internet.served.set(`${FILE}.asc`, await detached(content, signer, { date: new Date(past.getTime() + 3_600_000) }));
    return verify({ signature: pgp({ keys: 'old.asc', fingerprints: [signer.getFingerprint()] }) });
  };

  test('good, as a control', async () => {
    expect((await check(await old({ subkeys: [{ sign: true }] }))).proof).toMatch(/^signed by PGP 0x/);
  });
  test('an expired subkey of a good key', async () => {
    await expect(check(await old({ subkeys: [{ sign: true, keyExpirationTime: 86_400 }] }))).rejects.toThrow(/must not sign/);
  });
  test.each(['keyRetired', 'keySuperseded', 'keyCompromised'] as const)('a key that is revoked as %s', async (flag) => {
    const signer = await old();
    const { publicKey } = await openpgp.revokeKey({ key: signer, reasonForRevocation: { flag: reason[flag] }, format: 'object' });
    await expect(check(signer, publicKey)).rejects.toThrow(/is revoked/);
  });
  test.each(['keyRetired', 'keySuperseded', 'keyCompromised'] as const)('a subkey that is revoked as %s', async (flag) => {
    const signer = await old({ subkeys: [{ sign: true }] });
    const published = await openpgp.readPrivateKey({ armoredKey: signer.armor() });
    const [subkey] = published.subkeys;
    if (subkey === undefined) throw new Error('no subkey');
    published.subkeys[0] = await subkey.revoke(signer.keyPacket as openpgp.SecretKeyPacket, { flag: reason[flag] });
    await expect(check(signer, published)).rejects.toThrow(/must not sign/);
  });
});

// A text signature is over line ends in one form: it does not tell a file from the same with other line ends.
test('a text signature counts for bytes without carriage returns only', async () => {
  const lines = Buffer.from('one\ntwo\n');
  const sign = async (data: Buffer): Promise<string> =>
    (await openpgp.sign({
      message: await openpgp.createMessage({ text: data.toString() }),
      signingKeys: key,
      detached: true,
    })) as string;
  internet.served.set(FILE, lines).set(`${FILE}.asc`, await sign(lines));
  await verify({ signature: pgp() });
  const changed = Buffer.from('one\r\ntwo\n');
  internet.served.set(FILE, changed);
  // The control: the library calls it good.
  const { signatures } = await openpgp.verify({
    message: await openpgp.createMessage({ binary: changed }),
    signature: await openpgp.readSignature({ armoredSignature: await sign(lines) }),
    verificationKeys: key,
    format: 'binary',
  });
  expect(await signatures[0]?.verified).toBe(true);
  await expect(verify({ signature: pgp() })).rejects.toThrow(/a text signature does not cover line ends/);
});

describe('signed checksums', () => {
  const list = `${sha(content)}  tool-amd64.tgz\n${sha(tampered)}  other\n`;
  const SUMS = 'example.org/v1.2.3/SHA256SUMS';

  test('a cleartext-signed list', async () => {
    internet.served.set(SUMS, await clearsigned(list));
    const options = {
      checksum: 'SHA256SUMS',
      signature: { kind: 'pgp', keys: 'tool.asc', fingerprints: [key.getFingerprint()], of: 'checksum' } as const,
    };
    expect(await verify(options)).toMatchObject({
      sha256: sha(content),
      proof: `sha256 list, signed by PGP 0x${key.getFingerprint().toUpperCase()}`,
    });

    internet.served.set(SUMS, (await clearsigned(list)).replace(sha(content), sha(tampered)));
    await expect(verify(options)).rejects.toThrow(/bad PGP signature/);
    internet.served.set(SUMS, await clearsigned(list, stranger));
    await expect(verify(options)).rejects.toThrow(/which is not pinned/);
    internet.served.set(SUMS, list);
    await expect(verify(options)).rejects.toThrow(/not a PGP-signed text/);
    // What stands around the signed text was signed by nobody.
    internet.served.set(SUMS, `${sha(content)}  tool-amd64.tgz\n${await clearsigned(`${sha(tampered)}  other\n`)}`);
    await expect(verify(options)).rejects.toThrow(/no entry for|not a PGP-signed text/);
  });
  test('a signed list whose signer the definition does not name', async () => {
    internet.served.set(SUMS, await clearsigned(list));
    await expect(verify({ checksum: 'SHA256SUMS' })).rejects.toThrow(/does not specify by whom/);
  });
  test('a list with a detached signature', async () => {
    internet.served.set(SUMS, list).set(`${SUMS}.asc`, await detached(Buffer.from(list)));
    const options = { checksum: 'SHA256SUMS', signature: pgp({ of: 'checksum', url: '{checksum}.asc' }) };
    expect((await verify(options)).proof).toMatch(/^sha256 list, signed by PGP 0x/);
    internet.served.set(SUMS, `${list}\n`);
    await expect(verify(options)).rejects.toThrow(/bad PGP signature/);
  });
  test('what gpg itself signs', async ({ skip }) => {
    const home = await mkdtemp(join(tmpdir(), 'gpg-'));
    const gpg = (...args: string[]): Buffer =>
      execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', '--yes', ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    try {
      gpg('--version');
    } catch {
      return skip('gpg is not installed');
    }
    try {
      await mkdir(join(home, 'in'));
      gpg('--passphrase', '', '--quick-generate-key', 'A Tool <tool@example.org>', 'ed25519', 'sign', '1d');
      const [, fingerprint = ''] = /^fpr:+([0-9A-F]{40}):/m.exec(gpg('--list-keys', '--with-colons').toString()) ?? [];
      await writeFile(join(internet.dir, 'gpg.bin'), gpg('--export'));
      await writeFile(join(home, 'in', 'sums'), list);
      await writeFile(join(home, 'in', 'file'), content);
      internet.served.set(SUMS, gpg('--clearsign', '--output', '-', join(home, 'in', 'sums')));
      internet.served.set(`${FILE}.sig`, gpg('--detach-sign', '--output', '-', join(home, 'in', 'file')));
      const by = { kind: 'pgp', keys: 'gpg.bin', fingerprints: [fingerprint] } as const;
      const file = await verify({
        checksum: 'SHA256SUMS',
        signature: [
          { ...by, of: 'checksum' },
          { ...by, url: '{url}.sig' },
        ],
      });
      expect(file.proof).toBe(`sha256 list, signed by PGP 0x${fingerprint}; signed by PGP 0x${fingerprint}`);
      // Collisions of SHA-1 can be made: what is signed by it may be something else.
      internet.served.set(`${FILE}.sig`, gpg('--digest-algo', 'SHA1', '--detach-sign', '--output', '-', join(home, 'in', 'file')));
      await expect(verify({ signature: { ...by, url: '{url}.sig' } })).rejects.toThrow(/hash algorithm/i);
    } finally {
      execFileSync('gpgconf', ['--homedir', home, '--kill', 'all']);
      await rm(home, { recursive: true, force: true });
    }
  });
});

describe('the digest that GitHub has of an asset', () => {
  const asset = 'github.com/example/tool/releases/download/tool/v1.2.3/tool-amd64.tgz';
  const api = 'api.github.com/repos/example/tool/releases/tags/tool%2Fv1.2.3';
  const verifyAsset = (): Promise<ShownFile> => {
    const origin = upstream('https://github.com/example/tool/releases/download/tool%2Fv{version}/tool-{arch}.tgz', { checksum: 'github' });
    return shownFile(fetchVerified(origin, component(origin), 'x86-64', internet.dir, internet.context()));
  };
  const answer = (...assets: object[]): string => JSON.stringify({ tag_name: 'tool/v1.2.3', draft: false, prerelease: false, assets });
  const named = (digest: string | null): object => ({ name: 'tool-amd64.tgz', size: content.length, digest, browser_download_url: asset });

  beforeEach(() => {
    internet.served.set(asset.replace('/tool/v', '/tool%2Fv'), content);
  });
  test('good', async () => {
    internet.served.set(api, answer({ name: 'other', digest: null }, named(`sha256:${sha(content)}`)));
    expect(await verifyAsset()).toMatchObject({ sha256: sha(content), proof: 'GitHub asset digest' });
  });
  test('another digest', async () => {
    internet.served.set(api, answer(named(`sha256:${sha(tampered)}`)));
    await expect(verifyAsset()).rejects.toThrow(/not match the hash published upstream \(GitHub asset digest\)/);
  });
  test('no digest, no such asset, two of one name', async () => {
    internet.served.set(api, answer(named(null)));
    await expect(verifyAsset()).rejects.toThrow(/GitHub publishes no digest for tool-amd64\.tgz/);
    internet.served.set(api, answer({ name: 'other', digest: null }));
    await expect(verifyAsset()).rejects.toThrow(/has no asset tool-amd64\.tgz/);
    internet.served.set(api, answer(named(`sha256:${sha(content)}`), named(`sha256:${sha(content)}`)));
    await expect(verifyAsset()).rejects.toThrow(/has 2 assets/);
  });
  test('an error of the API is not a missing release', async () => {
    internet.served.set(api, { status: 500 });
    await expect(verifyAsset()).rejects.toThrow(/answered 500/);
    internet.served.set(api, '{"assets": [{}]}');
    await expect(verifyAsset()).rejects.toThrow(/invalid response: /);
  });
});
