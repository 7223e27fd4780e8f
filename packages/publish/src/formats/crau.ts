import { constants, createHash, createPublicKey, privateEncrypt, publicDecrypt, type Hash, type KeyObject } from 'node:crypto';
import { open, readFile, stat, type FileHandle } from 'node:fs/promises';
import { CHUNK, eachChunk, inThread, isWorthAThread, UserError, withBounded, type BoundedFile } from '@flatcar/core/engine';
import protobuf, { type Type } from 'protobufjs';

/**
 * Flatcar's update payload: not gzip, though its name ends in `.gz`. Version 1 of update_engine's format (full_update_generator.cc,
 * payload_signer.cc): "CrAU", version and manifest size (u64, big endian), manifest, data, signatures.
 */
const MAGIC = 'CrAU';
const HEADER = 20;
const BLOCK = 4096;
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

/** Calls `use` with each chunk of CHUNK bytes of a file; the last may be shorter. */
async function eachChunkOf(handle: FileHandle, size: number, use: (chunk: Buffer) => void | Promise<void>): Promise<void> {
  if ((await eachChunk(handle, { start: 0, end: size }, use)) < size) throw new UserError('the image was truncated while it was read');
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
  await eachChunkOf(source, image.size, (chunk) => {
    operations.push({
      type: 0,
      data_offset: offset,
      data_length: chunk.length,
      // The generator always writes whole chunks; the length of the data counts.
      dst_extents: [{ start_block: offset / BLOCK, num_blocks: CHUNK / BLOCK }],
      data_sha256_hash: createHash('sha256').update(chunk).digest(),
    });
    offset += chunk.length;
  });
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
 * unchanged (REPLACE), which every reader supports. `sha256` is the image's digest, which readers compare at the end: checkPayload refuses a payload
 * of other bytes.
 */
export async function writePayload(
  image: { file: string; sha256: string },
  out: string,
  keys: readonly KeyObject[],
): Promise<PayloadDigests> {
  const { size } = await stat(image.file);
  if (isWorthAThread(size)) return (await inThread(import.meta.url, 'writePayload', image, out, keys)) as PayloadDigests;
  const { signatures: signaturesType } = await types();
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
    const [sha256, sha1] = [createHash('sha256'), createHash('sha1')];
    const write = async (bytes: Buffer): Promise<void> => {
      sha256.update(bytes);
      sha1.update(bytes);
      await target.writeFile(bytes);
    };
    await write(headerFor(manifest));
    await write(manifest);
    await eachChunkOf(source, size, write);
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

async function readSignatures(
  file: BoundedFile,
  type: Type,
  offset: number,
  size: number,
): Promise<{ bytes: Buffer; signatures: readonly Buffer[] }> {
  const bytes = await file.read(offset, size, 1 << 20);
  const { signatures = [] } = decode(type, bytes) as { signatures?: { data?: Uint8Array }[] };
  if (signatures.length > MOST_SIGNATURES) throw new RangeError(`${signatures.length} signatures`);
  return { bytes, signatures: signatures.map(({ data }) => Buffer.from(data ?? [])) };
}

/** Digests the data of all operations, which must cut it into chunks from start to end as writePayload does. */
async function digestData(
  file: BoundedFile,
  base: number,
  dataSize: number,
  operations: readonly Operation[],
  signed: Hash,
): Promise<string> {
  const isChunk = ({ type, data_offset: offset = 0, data_length: size = 0 }: Operation, index: number): boolean =>
    type === 0 && offset === index * CHUNK && size === Math.min(CHUNK, dataSize - offset) && size > 0;
  if (!operations.every(isChunk)) throw new RangeError('it does not have the operations of a full payload');
  if (operations.length !== Math.ceil(dataSize / CHUNK)) throw new RangeError('data is left over');
  const content = createHash('sha256');
  let index = 0;
  await file.each(base, dataSize, (chunk) => {
    const digest = createHash('sha256').update(chunk).digest();
    if (!digest.equals(operations[index]?.data_sha256_hash ?? Buffer.alloc(0)))
      throw new RangeError(`the data at ${index * CHUNK} has another digest`);
    signed.update(chunk);
    content.update(chunk);
    index += 1;
  });
  return content.digest('hex');
}

/** What a good payload contains. */
export interface CheckedPayload {
  /** Digest of the image, hex. */
  readonly sha256: string;
  /** Size of the image. */
  readonly size: number;
  /** Digest of the payload itself, hex. */
  readonly payload: string;
}

/**
 * Checks a payload as a client does: header, one good signature by one of the keys, every operation's data, and the whole image.
 * Accepts only payloads as writePayload makes them; throws a UserError for others.
 */
export async function checkPayload(path: string, keys: readonly KeyObject[]): Promise<CheckedPayload> {
  if (isWorthAThread((await stat(path)).size)) return (await inThread(import.meta.url, 'checkPayload', path, keys)) as CheckedPayload;
  const { manifest: manifestType, signatures: signaturesType } = await types();
  try {
    return await withBounded(path, async (file) => {
      const { bytes, manifest } = await readHead(file, manifestType);
      const { signatures_offset: size = 0, signatures_size: signatureSize = 0, new_partition_info: info } = manifest;
      if (bytes.length + size + signatureSize !== file.size)
        throw new RangeError(`it has ${file.size} bytes and its manifest implies ${bytes.length + size + signatureSize}`);
      const { bytes: signatureBytes, signatures } = await readSignatures(file, signaturesType, bytes.length + size, signatureSize);
      const signed = createHash('sha256').update(bytes);
      const sha256 = await digestData(file, bytes.length, size, manifest.partition_operations ?? [], signed);
      const digest = signed.copy().digest();
      if (!signatures.some((one) => keys.some((key) => verifyDigest(digest, createPublic(key), one))))
        throw new RangeError('it has no signature by a known key');
      if (sha256 !== Buffer.from(info?.hash ?? []).toString('hex') || size !== info?.size)
        throw new RangeError('its image has another digest or size than its manifest');
      return { sha256, size, payload: signed.update(signatureBytes).digest('hex') };
    });
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new UserError(`the update payload is damaged: ${cause.message}`, { where: path, next: 'publish it again', cause });
  }
}

const createPublic = (key: KeyObject): KeyObject => (key.type === 'private' ? createPublicKey(key) : key);
