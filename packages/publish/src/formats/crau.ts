import { constants, createHash, createPublicKey, privateEncrypt, publicDecrypt, type Hash, type KeyObject } from 'node:crypto';
import { open, readFile, stat, type FileHandle } from 'node:fs/promises';
import { throwIfInterrupted, UserError, withBounded, type BoundedFile } from '@flatcar/core/engine';
import protobuf, { type Type } from 'protobufjs';

/**
 * Flatcar's update payload: not gzip, though its name ends in `.gz`. Version 1 of update_engine's format (full_update_generator.cc,
 * payload_signer.cc): "CrAU", version and manifest size (u64, big endian), manifest, data, signatures.
 */
const MAGIC = 'CrAU';
const HEADER = 20;
const BLOCK = 4096;
/** Data of one operation, as update_engine's generator cuts it. */
const CHUNK = 1 << 20;
/** Offsets and lengths in the manifest are uint32. */
const LIMIT = 2 ** 32;
/** Version of the last signature; earlier ones have lower versions (kSignatureMessageCurrentVersion). */
const SIGNATURE_VERSION = 2;
/** Limit of a manifest: 4096 chunks need less than half a megabyte. */
const MANIFEST_LIMIT = 1 << 20;
/** Limit of signatures: each is tried with each key. */
const MOST_SIGNATURES = 16;

interface Messages {
  readonly manifest: Type;
  readonly signatures: Type;
}
let messages: Promise<Messages> | undefined;
const load = async (): Promise<Messages> => {
  const text = await readFile(new URL('update_metadata.proto', import.meta.url), 'utf8');
  const { root } = protobuf.parse(text, { keepCase: true });
  return {
    manifest: root.lookupType('chromeos_update_engine.DeltaArchiveManifest'),
    signatures: root.lookupType('chromeos_update_engine.Signatures'),
  };
};
const types = (): Promise<Messages> => (messages ??= load());

const encode = (type: Type, value: Record<string, unknown>): Buffer => Buffer.from(type.encode(type.fromObject(value)).finish());

/** What a server lists of a payload. */
export interface PayloadDigests {
  readonly size: number;
  /** Hex. */
  readonly sha256: string;
  /** base64, as Omaha's `hash`. */
  readonly sha1: string;
}

/** Reads a file in chunks of CHUNK bytes; the last may be shorter. */
async function* chunksOf(handle: FileHandle, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < size; at += CHUNK) {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK, size - at));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
    if (bytesRead !== chunk.length) throw new UserError('the image was truncated while it was read');
    yield chunk;
  }
}

function signaturesOf(type: Type, data: readonly Buffer[]): Buffer {
  return encode(type, { signatures: data.map((one, index) => ({ version: SIGNATURE_VERSION + 1 - data.length + index, data: one })) });
}

/** The manifest of a full payload, encoded: one operation per chunk of the image. */
async function composeManifest(
  source: FileHandle,
  image: { readonly size: number; readonly sha256: string },
  signatureSize: number,
): Promise<Buffer> {
  const operations: object[] = [];
  let offset = 0;
  for await (const chunk of chunksOf(source, image.size)) {
    operations.push({
      type: 0,
      data_offset: offset,
      data_length: chunk.length,
      // The generator always writes whole chunks; the length of the data counts.
      dst_extents: [{ start_block: offset / BLOCK, num_blocks: CHUNK / BLOCK }],
      data_sha256_hash: createHash('sha256').update(chunk).digest(),
    });
    offset += chunk.length;
  }
  const { manifest } = await types();
  return encode(manifest, {
    partition_operations: operations,
    // Covers the signatures, so that all data belongs to an operation. It writes to no block (kSparseHole).
    noop_operations: [
      {
        type: 0,
        data_offset: image.size,
        data_length: signatureSize,
        dst_extents: [{ start_block: '18446744073709551615', num_blocks: Math.ceil(signatureSize / BLOCK) }],
      },
    ],
    block_size: BLOCK,
    signatures_offset: image.size,
    signatures_size: signatureSize,
    new_partition_info: { size: image.size, hash: Buffer.from(image.sha256, 'hex') },
  });
}

function headerFor(manifest: Buffer): Buffer {
  const header = Buffer.alloc(HEADER);
  header.write(MAGIC, 0, 'latin1');
  header.writeBigUInt64BE(1n, 4);
  header.writeBigUInt64BE(BigInt(manifest.length), 12);
  return header;
}

/**
 * Writes the update payload of an image, signed by each of the RSA keys. Images are compressed inside, so the payload contains their bytes
 * unchanged (REPLACE), which every reader supports. `sha256` is the image's digest, which readers compare at the end.
 */
export async function writePayload(
  image: { file: string; sha256: string },
  out: string,
  keys: readonly KeyObject[],
): Promise<PayloadDigests> {
  const { signatures: signaturesType } = await types();
  const { size } = await stat(image.file);
  if (keys.length === 0) throw new UserError('an update payload needs a key to sign it', { next: 'flatcar-ext keys init makes one' });
  if (size === 0 || size % BLOCK !== 0) throw new UserError(`the image's size is not a multiple of ${BLOCK}`, { where: image.file });
  // The signed bytes contain the size of the signatures, which follows from the keys.
  const placeholders = keys.map((key) => Buffer.alloc((key.asymmetricKeyDetails?.modulusLength ?? 2048) / 8));
  const signatureSize = signaturesOf(signaturesType, placeholders).length;
  if (size + signatureSize >= LIMIT) throw new UserError('the image is too large for an update payload (4 GiB)', { where: image.file });

  const source = await open(image.file, 'r');
  const target = await open(out, 'w');
  try {
    const manifest = await composeManifest(source, { size, sha256: image.sha256 }, signatureSize);
    const [sha256, sha1, content] = [createHash('sha256'), createHash('sha1'), createHash('sha256')];
    const write = async (bytes: Buffer): Promise<void> => {
      sha256.update(bytes);
      sha1.update(bytes);
      await target.writeFile(bytes);
    };
    await write(headerFor(manifest));
    await write(manifest);
    for await (const chunk of chunksOf(source, size)) {
      content.update(chunk);
      await write(chunk);
    }
    if (content.digest('hex') !== image.sha256) throw new UserError('the image has another digest than expected', { where: image.file });
    const digest = sha256.copy().digest();
    const signatures = keys.map((key) => signDigest(digest, key));
    await write(signaturesOf(signaturesType, signatures));
    await target.sync();
    const total = HEADER + manifest.length + size + signatureSize;
    const written = (await target.stat()).size;
    if (written !== total) throw new UserError(`the payload has ${written} bytes instead of ${total}`, { where: out });
    return { size: total, sha256: sha256.digest('hex'), sha1: sha1.digest('base64') };
  } finally {
    await source.close();
    await target.close();
  }
}

// DigestInfo of SHA-256 (RFC 8017, 9.2), which PKCS#1 v1.5 signs: for a hash that is already computed.
const DIGEST_INFO = Buffer.from('3031300d060960864801650304020105000420', 'hex');

const padding = constants.RSA_PKCS1_PADDING;

/** RSA PKCS#1 v1.5 over a SHA-256 digest: the file is hashed once, however many keys there are. */
function signDigest(digest: Buffer, key: KeyObject): Buffer {
  return privateEncrypt({ key, padding }, Buffer.concat([DIGEST_INFO, digest]));
}

function verifyDigest(digest: Buffer, key: KeyObject, signature: Buffer): boolean {
  try {
    return publicDecrypt({ key, padding }, signature).equals(Buffer.concat([DIGEST_INFO, digest]));
  } catch {
    return false; // made by another key, or not a signature
  }
}

interface Operation {
  readonly type: number;
  readonly data_offset?: number;
  readonly data_length?: number;
  readonly data_sha256_hash?: Uint8Array;
}

interface PayloadManifest {
  readonly partition_operations?: readonly Operation[];
  readonly signatures_offset?: number;
  readonly signatures_size?: number;
  readonly new_partition_info?: { readonly size?: number; readonly hash?: Uint8Array };
}

function decode(type: Type, from: Buffer): unknown {
  try {
    return type.toObject(type.decode(from), { longs: Number, defaults: false });
  } catch {
    throw new RangeError('a message in it is damaged');
  }
}

/** Header and manifest as bytes, and the decoded manifest. */
async function readHead(file: BoundedFile, type: Type): Promise<{ bytes: Buffer; manifest: PayloadManifest }> {
  const header = await file.read(0, HEADER);
  if (header.toString('latin1', 0, 4) !== MAGIC || header.readBigUInt64BE(4) !== 1n)
    throw new RangeError('it has no CrAU header of version 1');
  const bytes = await file.read(HEADER, Number(header.readBigUInt64BE(12)), MANIFEST_LIMIT);
  return { bytes: Buffer.concat([header, bytes]), manifest: decode(type, bytes) as PayloadManifest };
}

async function readSignatures(file: BoundedFile, type: Type, offset: number, size: number): Promise<readonly Buffer[]> {
  const { signatures = [] } = decode(type, await file.read(offset, size, 1 << 20)) as { signatures?: { data?: Uint8Array }[] };
  if (signatures.length > MOST_SIGNATURES) throw new RangeError(`${signatures.length} signatures`);
  return signatures.map(({ data }) => Buffer.from(data ?? []));
}

/** Digests the data of all operations, which must cover the data from start to end in order. */
async function digestData(
  file: BoundedFile,
  base: number,
  dataSize: number,
  operations: readonly Operation[],
  signed: Hash,
): Promise<string> {
  const content = createHash('sha256');
  let at = 0;
  for (const { type, data_offset: offset = 0, data_length: size = 0, data_sha256_hash: hash = Buffer.alloc(0) } of operations) {
    throwIfInterrupted();
    if (type !== 0 || offset !== at || size === 0 || at + size > dataSize)
      throw new RangeError('it does not have the operations of a full payload');
    const chunk = await file.read(base + offset, size, CHUNK);
    if (!createHash('sha256').update(chunk).digest().equals(Buffer.from(hash)))
      throw new RangeError(`the data at ${offset} has another digest`);
    signed.update(chunk);
    content.update(chunk);
    at += size;
  }
  if (at !== dataSize) throw new RangeError('data is left over');
  return content.digest('hex');
}

/**
 * Checks a payload as a client does: header, one good signature by one of the keys, every operation's data, and the whole image.
 * Returns the image's digest (hex) and size. Accepts only payloads as writePayload makes them; throws a UserError for others.
 */
export async function checkPayload(path: string, keys: readonly KeyObject[]): Promise<{ sha256: string; size: number }> {
  const { manifest: manifestType, signatures: signaturesType } = await types();
  try {
    return await withBounded(path, async (file) => {
      const { bytes, manifest } = await readHead(file, manifestType);
      const { signatures_offset: size = 0, signatures_size: signatureSize = 0, new_partition_info: info } = manifest;
      if (bytes.length + size + signatureSize !== file.size)
        throw new RangeError(`it has ${file.size} bytes and its manifest implies ${bytes.length + size + signatureSize}`);
      const signatures = await readSignatures(file, signaturesType, bytes.length + size, signatureSize);
      const signed = createHash('sha256').update(bytes);
      const sha256 = await digestData(file, bytes.length, size, manifest.partition_operations ?? [], signed);
      const digest = signed.digest();
      if (!signatures.some((one) => keys.some((key) => verifyDigest(digest, createPublic(key), one))))
        throw new RangeError('it has no signature by a known key');
      if (sha256 !== Buffer.from(info?.hash ?? []).toString('hex') || size !== info?.size)
        throw new RangeError('its image has another digest or size than its manifest');
      return { sha256, size };
    });
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new UserError(`the update payload is damaged: ${cause.message}`, { where: path, next: 'publish it again', cause });
  }
}

const createPublic = (key: KeyObject): KeyObject => (key.type === 'private' ? createPublicKey(key) : key);
