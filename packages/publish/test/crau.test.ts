import { execFileSync } from 'node:child_process';
import { createHash, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore, openTools } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkPayload, writePayload } from '../src/formats/crau.ts';
import { publicPem } from '../src/keys/keys.ts';

const tools = openTools(openStore());
const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
let dir: string;
let keys: KeyObject[];
// Three whole chunks and a short one.
const image = Buffer.concat([randomBytes(3 << 20), randomBytes(8192)]);
const about = (): { file: string; sha256: string } => ({ file: join(dir, 'image.raw'), sha256: hash(image) });

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'crau-'));
  await writeFile(about().file, image);
  keys = [1, 2].map(() => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** The text that protoc makes of a message, and what a field of it says. */
async function decode(message: string, bytes: Buffer): Promise<string> {
  const { command, args, env } = { env: {}, ...(await tools.command('protoc')) };
  const source = join(import.meta.dirname, '../src/formats');
  return execFileSync(command, [...args, `--proto_path=${source}`, `--decode=chromeos_update_engine.${message}`, 'update_metadata.proto'], {
    input: bytes,
    env,
    encoding: 'utf8',
  });
}
const numbers = (text: string, field: string): number[] =>
  [...text.matchAll(new RegExp(`\\b${field}: (\\d+)`, 'g'))].map((match) => Number(match[1]));
/** The bytes of a string in protobuf's text form, whose escapes are octal. */
const bytesOf = (text: string): Buffer =>
  Buffer.from(
    text.replaceAll(/\\(?:([0-7]{3})|(.))/g, (_, octal: string | undefined, letter = '') =>
      octal === undefined
        ? ({ n: '\n', r: '\r', t: '\t' }[letter as string] ?? (letter as string))
        : String.fromCharCode(Number.parseInt(octal, 8)),
    ),
    'latin1',
  );

test('another implementation reads the payload and verifies it: protoc and openssl, as update_engine/decode_payload does', async () => {
  const out = join(dir, 'one.gz');
  const digests = await writePayload(about(), out, keys);
  const payload = await readFile(out);
  expect(digests).toEqual({ size: payload.length, sha256: hash(payload), sha1: createHash('sha1').update(payload).digest('base64') });
  expect(payload.toString('latin1', 0, 4)).toBe('CrAU');
  expect(payload.readBigUInt64BE(4)).toBe(1n);
  const base = 20 + Number(payload.readBigUInt64BE(12));
  const manifest = await decode('DeltaArchiveManifest', payload.subarray(20, base));
  const offsets = numbers(manifest, 'data_offset');
  const lengths = numbers(manifest, 'data_length');
  // Four chunks, and the operation that covers the signatures.
  expect(lengths.slice(0, 4)).toEqual([1 << 20, 1 << 20, 1 << 20, 8192]);
  expect(offsets).toEqual([0, 1 << 20, 2 << 20, 3 << 20, image.length]);
  expect(numbers(manifest, 'block_size')).toEqual([4096]);
  expect(manifest).toContain('start_block: 18446744073709551615');
  expect(numbers(manifest, 'start_block').slice(0, 4)).toEqual([0, 256, 512, 768]);
  expect(
    Buffer.concat(
      offsets.slice(0, 4).map((offset, index) => payload.subarray(base + offset, base + offset + (lengths[index] ?? 0))),
    ).equals(image),
  ).toBe(true);

  const [end = 0] = numbers(manifest, 'signatures_offset');
  const blob = payload.subarray(base + end);
  expect(numbers(manifest, 'signatures_size')).toEqual([blob.length]);
  const text = await decode('Signatures', blob);
  expect(numbers(text, 'version')).toEqual([1, 2]);
  const signatures = [...text.matchAll(/data: "((?:[^"\\]|\\.)*)"/g)].map((match) => bytesOf(match[1] ?? ''));
  await writeFile(join(dir, 'signed'), payload.subarray(0, base + end));
  for (const [index, signature] of signatures.entries()) {
    await writeFile(join(dir, 'signature'), signature);
    await writeFile(join(dir, 'key.pem'), publicPem(keys[index] as KeyObject));
    expect(
      execFileSync('openssl', ['dgst', '-sha256', '-verify', 'key.pem', '-signature', 'signature', 'signed'], {
        cwd: dir,
        encoding: 'utf8',
      }),
    ).toBe('Verified OK\n');
  }
});

test('our own reader accepts it by either key, and by no other', async () => {
  const out = join(dir, 'two.gz');
  await writePayload(about(), out, keys);
  const payload = hash(await readFile(out));
  for (const key of keys) expect(await checkPayload(out, [key])).toEqual({ sha256: hash(image), size: image.length, payload });
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
  await expect(checkPayload(out, [other])).rejects.toThrow('it has no signature by a known key');
});

test('a flipped bit anywhere is refused: header, manifest, data, signature; and so is a cut', async () => {
  const out = join(dir, 'three.gz');
  await writePayload(about(), out, keys.slice(0, 1));
  const good = await readFile(out);
  const base = 20 + Number(good.readBigUInt64BE(12));
  const spoilt = join(dir, 'spoilt.gz');
  for (const at of [0, 11, 19, 25, base - 10, base, base + image.length - 1, good.length - 1]) {
    const bytes = Buffer.from(good);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    await writeFile(spoilt, bytes);
    await expect(checkPayload(spoilt, keys), `byte ${at}`).rejects.toThrow('the update payload is damaged');
  }
  await writeFile(spoilt, good.subarray(0, -1));
  await expect(checkPayload(spoilt, keys)).rejects.toThrow('the update payload is damaged');
});

test('refuses an image that is not a whole number of blocks, and an image with another digest', async () => {
  const odd = join(dir, 'odd.raw');
  await writeFile(odd, image.subarray(0, -1));
  await expect(writePayload({ file: odd, sha256: hash(image) }, join(dir, 'odd.gz'), keys)).rejects.toThrow('not a multiple of 4096');
  const other = join(dir, 'other.gz');
  await writePayload({ ...about(), sha256: hash(Buffer.from('')) }, other, keys);
  await expect(checkPayload(other, keys)).rejects.toThrow('its image has another digest or size than its manifest');
});
