// Block lists: what an image of a payload differs in from an image of the same payload for another release. docs/deltas.md describes the format;
// the agent has another reader (packages/agent).
import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { BoundedFile, CHUNK, eachChunk, inThread, isWorthAThread, unreadable, UserError } from '@flatcar/core/engine';

/** The first bytes of a block list. Another format gets another number. */
const MAGIC = Buffer.from('FEXTBLK1', 'latin1');
/** Magic, size of the images (64 bits), number of records (32 bits); little-endian. */
const HEADER = 20;
/** Offset (64 bits) and length (32 bits) before the bytes of a record. */
const RECORD = 12;
/** Equal bytes between two differences that cost no more than another record does. */
const GAP = RECORD;
const BLOCK = 4096;
/** Largest block list, in bytes: those of real images have some kilobytes. */
export const MOST_BLOCKS = 1 << 20;

/** Bytes that an image has at an offset where another one has others. */
export interface BlockRecord {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** The differences of two images of the same size. */
export interface BlockList {
  /** Of both images, in bytes. */
  readonly size: number;
  /** In ascending order, apart from each other. */
  readonly records: readonly BlockRecord[];
}

/** The bytes of a block list. */
export function blockListBytes({ size, records }: BlockList): Buffer {
  const header = Buffer.alloc(HEADER);
  MAGIC.copy(header);
  header.writeBigUInt64LE(BigInt(size), 8);
  header.writeUInt32LE(records.length, 16);
  const parts = records.flatMap(({ offset, bytes }) => {
    const head = Buffer.alloc(RECORD);
    head.writeBigUInt64LE(BigInt(offset), 0);
    head.writeUInt32LE(bytes.length, 8);
    return [head, bytes];
  });
  return Buffer.concat([header, ...parts]);
}

function parse(bytes: Buffer): BlockList {
  if (bytes.length > MOST_BLOCKS) throw new RangeError(`longer than ${MOST_BLOCKS} bytes`);
  if (bytes.length < HEADER || !bytes.subarray(0, 8).equals(MAGIC)) throw new RangeError('not a block list');
  // Beyond 2^53 the number is inexact, and larger than any image.
  const size = Number(bytes.readBigUInt64LE(8));
  const count = bytes.readUInt32LE(16);
  const records: BlockRecord[] = [];
  let end = 0;
  let at = HEADER;
  for (let index = 0; index < count; index += 1) {
    if (at + RECORD > bytes.length) throw new RangeError('it is cut off');
    const offset = Number(bytes.readBigUInt64LE(at));
    const length = bytes.readUInt32LE(at + 8);
    at += RECORD;
    if (length === 0) throw new RangeError('an empty record');
    if (offset < end || offset + length > size) throw new RangeError('a record overlaps another one or is outside the image');
    if (at + length > bytes.length) throw new RangeError('it is cut off');
    records.push({ offset, bytes: bytes.subarray(at, at + length) });
    at += length;
    end = offset + length;
  }
  if (at !== bytes.length) throw new RangeError('there is data behind the last record');
  return { size, records };
}

/** Reads a block list of an unknown author; `where` is for errors. Throws a UserError for bytes that are not exactly one list. */
export function parseBlockList(bytes: Buffer, where: string): BlockList {
  try {
    return parse(bytes);
  } catch (cause) {
    throw unreadable(cause, 'the block list', where);
  }
}

/** Collects differences that follow each other, joined across short gaps. */
class Differences {
  readonly records: BlockRecord[] = [];
  #start = 0;
  #parts: Buffer[] = [];
  /** End of the last difference; equal bytes behind it are kept until the next one is near, or far. */
  #end = -1;
  #total = HEADER;

  /** False if the list has become too long. */
  get isShort(): boolean {
    return this.#total <= MOST_BLOCKS;
  }

  /** Enters the differences of two pieces of equal length at an offset. */
  add(before: Buffer, after: Buffer, offset: number): void {
    for (let at = 0; at < after.length && this.isShort; at += 1) {
      if (before[at] === after[at]) continue;
      const start = at;
      while (at < after.length && before[at] !== after[at]) at += 1;
      this.#enter(after, offset, start, at);
    }
  }

  #enter(after: Buffer, offset: number, start: number, end: number): void {
    const gap = offset + start - this.#end;
    // Bytes of a gap that began in an earlier piece are not at hand.
    if (this.#end >= offset && gap <= GAP) this.#parts.push(Buffer.from(after.subarray(this.#end - offset, end)));
    else {
      this.#close();
      this.#start = offset + start;
      this.#parts = [Buffer.from(after.subarray(start, end))];
    }
    this.#total += this.#parts.at(-1)?.length ?? 0;
    this.#end = offset + end;
  }

  #close(): void {
    if (this.#parts.length === 0) return;
    this.records.push({ offset: this.#start, bytes: Buffer.concat(this.#parts) });
    this.#total += RECORD;
    this.#parts = [];
  }

  finish(): readonly BlockRecord[] {
    this.#close();
    return this.records;
  }
}

/** Calls `use` with each chunk of two files of the same size. */
async function eachPair(before: string, after: string, use: (before: Buffer, after: Buffer, offset: number) => boolean): Promise<void> {
  const [a, b] = [await open(before, 'r'), await open(after, 'r')];
  try {
    const { size } = await b.stat();
    const [old, fresh] = [new BoundedFile(a, size), new BoundedFile(b, size)];
    for (let at = 0; at < size; at += CHUNK) {
      const length = Math.min(CHUNK, size - at);
      if (!use(await old.read(at, length), await fresh.read(at, length), at)) return;
    }
  } finally {
    await a.close();
    await b.close();
  }
}

/**
 * Compares two images of the same size, in a stream, and returns the bytes of their block list; undefined if their sizes differ or the list
 * would be too long. Another thread compares large images.
 */
export async function compareImages(before: string, after: string): Promise<Buffer | undefined> {
  const { size } = await stat(after);
  if (size !== (await stat(before)).size) return undefined;
  if (isWorthAThread(size)) {
    const bytes = (await inThread(import.meta.url, 'compareImages', before, after)) as Uint8Array | undefined;
    return bytes === undefined ? undefined : Buffer.from(bytes);
  }
  const found = new Differences();
  await eachPair(before, after, (old, fresh, offset) => {
    if (!old.equals(fresh))
      for (let at = 0; at < fresh.length; at += BLOCK) {
        const [one, other] = [old.subarray(at, at + BLOCK), fresh.subarray(at, at + BLOCK)];
        if (!one.equals(other)) found.add(one, other, offset + at);
      }
    return found.isShort;
  });
  const bytes = blockListBytes({ size, records: found.finish() });
  return bytes.length > MOST_BLOCKS ? undefined : bytes;
}

/** Calls `use` with each chunk of the image that a block list makes of another image. Throws a UserError if the list is for another size. */
export async function applyBlockList(before: string, list: BlockList, use: (chunk: Buffer) => void | Promise<void>): Promise<void> {
  const handle = await open(before, 'r');
  try {
    const { size } = await handle.stat();
    if (size !== list.size)
      throw new UserError(`the block list is for an image of ${list.size} bytes, and this one has ${size}`, { where: before });
    let offset = 0;
    let next = 0;
    await eachChunk(handle, { start: 0, end: size }, async (chunk) => {
      const end = offset + chunk.length;
      for (let one = list.records[next]; one !== undefined && one.offset < end; one = list.records[next]) {
        const from = Math.max(one.offset, offset);
        one.bytes.copy(chunk, from - offset, from - one.offset, end - one.offset);
        if (one.offset + one.bytes.length > end) break; // the rest belongs to the next chunk
        next += 1;
      }
      await use(chunk);
      offset = end;
    });
  } finally {
    await handle.close();
  }
}

/** The sha256 (hex) of the image that a block list makes of another image. Another thread reads large images. */
export async function patchedSha256(before: string, list: Uint8Array): Promise<string> {
  if (isWorthAThread((await stat(before)).size)) return (await inThread(import.meta.url, 'patchedSha256', before, list)) as string;
  const hash = createHash('sha256');
  await applyBlockList(before, parseBlockList(Buffer.from(list), before), (chunk) => void hash.update(chunk));
  return hash.digest('hex');
}
