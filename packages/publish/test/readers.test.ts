import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkPayload, writePayload } from '../src/formats/crau.ts';
import { checkSignatures, generateKey, readPrivateKeys, readPublicKeys, signDetached } from '../src/keys/openpgp.ts';
import { parseIndex } from '../src/tree/schema.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'publish-readers-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('OpenPGP', () => {
  test('a text of key blocks without ends takes a time that grows with its length', async () => {
    const started = performance.now();
    // 1.8 MB: looked through to its end from each of them it is 10^11 steps.
    expect(await readPublicKeys('-----BEGIN PGP PUBLIC KEY BLOCK-----\n'.repeat(50_000), 'keys')).toEqual([]);
    expect(performance.now() - started).toBeLessThan(10_000);
  });
  test('signatures are checked only as far as a file can have them', async () => {
    const { privateKey, publicKey } = await generateKey('test');
    const [keys, known] = [await readPrivateKeys(privateKey, 'key'), await readPublicKeys(publicKey, 'key')];
    const one = await signDetached(Buffer.from('text'), keys);
    expect((await checkSignatures(Buffer.from('text'), one, known)).good.size).toBe(1);
    const many = await checkSignatures(Buffer.from('text'), Buffer.concat(Array.from({ length: 100 }, () => one)), known);
    expect(many).toMatchObject({ good: new Set(), problems: ['the signature cannot be read: it has 100 signatures'] });
  });
});

describe('an update payload', () => {
  let [payload, key]: [Buffer, KeyObject | undefined] = [Buffer.alloc(0), undefined];
  beforeAll(async () => {
    key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const image = Buffer.alloc(8192, 'x');
    await writeFile(join(dir, 'image'), image);
    await writePayload({ file: join(dir, 'image'), sha256: createHash('sha256').update(image).digest('hex') }, join(dir, 'payload'), [key]);
    payload = await readFile(join(dir, 'payload'));
  });
  const check = async (bytes: Buffer): Promise<unknown> => {
    await writeFile(join(dir, 'changed'), bytes);
    return checkPayload(join(dir, 'changed'), key === undefined ? [] : [key]);
  };
  test('is read', async () => {
    expect(await check(payload)).toMatchObject({ size: 8192 });
  });
  test.each([
    ['nothing', () => Buffer.alloc(0), 'it is cut off'],
    ['half of it', () => payload.subarray(0, 4000), 'it has 4000 bytes and its manifest implies'],
    [
      'a manifest of more than a megabyte',
      () => {
        const grown = Buffer.concat([payload, Buffer.alloc(2 << 20)]);
        grown.writeBigUInt64BE(BigInt(2 << 20), 12);
        return grown;
      },
      'a part of 2097152 bytes where at most 1048576 are expected',
    ],
  ])('of %s is refused with its file', async (_, bytes, message) => {
    await expect(check(bytes())).rejects.toMatchObject({
      name: 'UserError',
      message: expect.stringContaining(message) as string,
      where: join(dir, 'changed'),
    });
  });
});

test('an index of a later schema says so, and one of another shape names what is wrong and where', () => {
  expect(() => parseIndex('{"schema": 2}', 'index.json')).toThrow('this is schema 2, and 1 is the newest known here');
  expect(() => parseIndex('{"schema": 1}', 'index.json')).toThrow(/invalid index: \d+ errors/);
  expect(() => parseIndex('{', 'index.json')).toThrow('index is not JSON');
});
