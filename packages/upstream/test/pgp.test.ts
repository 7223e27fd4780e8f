import * as openpgp from 'openpgp';
import { beforeAll, expect, test } from 'vitest';
import { verifyClearsigned, verifyDetached, type Signers } from '../src/verify/openpgp.ts';

const text = 'signed';
let signature: Buffer;
let clear: string;
let signers: Signers;
beforeAll(async () => {
  const { privateKey, publicKey } = await openpgp.generateKey({ type: 'ecc', userIDs: [{ name: 'test' }], format: 'object' });
  const message = await openpgp.createMessage({ binary: Buffer.from(text) });
  signature = Buffer.from(await openpgp.sign({ message, signingKeys: privateKey, detached: true, format: 'binary' }));
  clear = await openpgp.sign({ message: await openpgp.createCleartextMessage({ text }), signingKeys: privateKey });
  signers = { keys: Buffer.from(publicKey.armor()), fingerprints: [publicKey.getFingerprint()], where: 'key.asc' };
});

test('detached and clear signatures are accepted', async () => {
  const by = expect.stringMatching(/^[0-9A-F]{40,64}$/) as string;
  expect(await verifyDetached(Buffer.from(text), signature, signers, 'file.sig')).toEqual(by);
  expect(await verifyClearsigned(clear, signers, 'file.asc')).toEqual({ text, by });
});

// Found by `npm run fuzz -- pgp-signature`: the library throws for the whole message.
test('a signature of an unknown type is refused, with its file', async () => {
  const unknown = Buffer.from(signature);
  const version = unknown.indexOf(4, 2); // behind the packet's header
  unknown[version + 1] = 0xba;
  await expect(verifyDetached(Buffer.from(text), unknown, signers, 'file.sig')).rejects.toMatchObject({
    name: 'UserError',
    message: expect.stringContaining('bad PGP signature') as string,
    where: 'file.sig',
  });
});

test('a hundred signatures of one file are refused', async () => {
  const many = Buffer.concat(Array.from({ length: 100 }, () => signature));
  await expect(verifyDetached(Buffer.from(text), many, signers, 'file.sig')).rejects.toThrow('the file has 100 PGP signatures');
});
