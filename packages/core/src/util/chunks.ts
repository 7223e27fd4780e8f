import type { FileHandle } from 'node:fs/promises';
import { throwIfInterrupted } from './interrupt.ts';

/** Size of a chunk, in bytes. */
export const CHUNK = 1 << 20;

/** Fills a buffer from a position of a file; returns the bytes read, which are fewer at the end of the file only. */
async function fill(handle: FileHandle, buffer: Buffer, position: number): Promise<number> {
  let filled = 0;
  while (filled < buffer.length) {
    const { bytesRead } = await handle.read(buffer, filled, buffer.length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}

/**
 * Reads a range of an open file in chunks of CHUNK bytes (the last may be shorter), and calls `use` with each in order while the next is read.
 * Returns the number of bytes, which is smaller than the range where the file ends earlier. Two buffers are used in turns, since a new one for each
 * chunk costs more than hashing it: `use` must not keep the chunk.
 */
export async function eachChunk(
  handle: FileHandle,
  { start, end }: { readonly start: number; readonly end: number },
  use: (chunk: Buffer) => void | Promise<void>,
): Promise<number> {
  const last = Math.min(end, (await handle.stat()).size);
  // As large as the file needs: thousands of small files would each allocate megabytes.
  const size = Math.min(CHUNK, Math.max(last - start, 4096));
  const buffers = [Buffer.allocUnsafeSlow(size), Buffer.allocUnsafeSlow(size)] as const;
  const read = (turn: number, at: number): Promise<number> => {
    const filled = fill(handle, (buffers[turn % 2] as Buffer).subarray(0, Math.max(Math.min(size, end - at), 0)), at);
    filled.catch(() => undefined); // it is awaited after `use`, which may throw
    return filled;
  };
  let at = start;
  let next = read(0, at);
  for (let turn = 0; ; turn += 1) {
    throwIfInterrupted();
    const filled = await next;
    if (filled === 0) return at - start;
    at += filled;
    next = read(turn + 1, at);
    await use((buffers[turn % 2] as Buffer).subarray(0, filled));
  }
}
