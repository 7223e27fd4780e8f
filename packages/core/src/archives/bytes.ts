import type { FileHandle } from 'node:fs/promises';
import { throwIfInterrupted } from '../util/interrupt.ts';

/** Bytes that are read from a file, and passed on, at a time. */
export const CHUNK = 1 << 20;

/** An archive that is damaged, cut off, or longer than it should be; the caller adds the file. */
export class DamagedError extends Error {
  constructor(what: string, cause?: unknown) {
    super(what, { cause });
    this.name = 'DamagedError';
  }
}

/** The bytes of an open file from `start` up to, but not including, `end`. */
export async function* fileBytes(handle: FileHandle, start: number, end: number): AsyncGenerator<Buffer, void> {
  for (let at = start; at < end;) {
    throwIfInterrupted();
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(Math.min(CHUNK, end - at)), 0, Math.min(CHUNK, end - at), at);
    if (bytesRead === 0) throw new DamagedError('it ends in the middle');
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Reads exactly `length` bytes of an open file. Throws a DamagedError if it has fewer. */
export async function readAt(handle: FileHandle, at: number, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of fileBytes(handle, at, at + length)) parts.push(part);
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
}

/** Reads a stream in the portions of a format. Passes the size of each chunk to `count` before the chunk is used. */
export class ByteReader {
  private readonly source: AsyncIterator<Buffer, unknown>;
  private readonly count: (bytes: number) => void;
  private chunk: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>, count: (bytes: number) => void = () => undefined) {
    this.source = source[Symbol.asyncIterator]();
    this.count = count;
  }

  /** True if nothing is left. */
  async atEnd(): Promise<boolean> {
    while (this.chunk.length === 0) {
      const { done, value } = await this.source.next();
      if (done === true) return true;
      throwIfInterrupted();
      this.count(value.length);
      this.chunk = value;
    }
    return false;
  }

  /** At least one byte and at most `length`; none at the end. */
  async some(length: number): Promise<Buffer> {
    if (await this.atEnd()) return Buffer.alloc(0);
    const part = this.chunk.subarray(0, length);
    this.chunk = this.chunk.subarray(part.length);
    return part;
  }

  /** `length` bytes, or all that are left if there are fewer. */
  async upTo(length: number): Promise<Buffer> {
    const first = await this.some(length);
    if (first.length === length || first.length === 0) return first;
    const parts = [first];
    for (let missing = length - first.length; missing > 0;) {
      const part = await this.some(missing);
      if (part.length === 0) break;
      parts.push(part);
      missing -= part.length;
    }
    return Buffer.concat(parts);
  }

  /** `length` bytes. Throws a DamagedError if fewer are left. */
  async exactly(length: number): Promise<Buffer> {
    const bytes = await this.upTo(length);
    if (bytes.length < length) throw new DamagedError('it ends in the middle');
    return bytes;
  }

  /** The next `length` bytes in portions. Throws a DamagedError if fewer are left. */
  async *stream(length: number): AsyncGenerator<Buffer, void> {
    for (let missing = length; missing > 0;) {
      const part = await this.some(missing);
      if (part.length === 0) throw new DamagedError('it ends in the middle');
      missing -= part.length;
      yield part;
    }
  }

  /** Ends the source, even if it was not read completely; resolves when it has ended. */
  async close(): Promise<void> {
    await this.source.return?.();
  }
}
