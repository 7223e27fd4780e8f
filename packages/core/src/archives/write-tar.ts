import { createReadStream, createWriteStream } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { UserError } from '../util/errors.ts';
import { throwIfInterrupted } from '../util/interrupt.ts';
import { walk, type WalkEntry } from '../util/walk.ts';

const BLOCK = 512;

const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;

/** A POSIX ustar header, with owner root and times of 1970. */
function header({ path, full, type }: WalkEntry, size: number, mode: number): Buffer {
  const name = type === 'dir' ? `${path}/` : path;
  const bytes = Buffer.alloc(BLOCK);
  if (Buffer.byteLength(name) > 100 || size >= 8 ** 11) throw new UserError('the name or the file is too long for a tar', { where: full });
  bytes.write(name, 0);
  const fields = { 100: octal(mode, 8), 108: octal(0, 8), 116: octal(0, 8), 124: octal(size, 12), 136: octal(0, 12) };
  for (const [at, text] of Object.entries(fields)) bytes.write(text, Number(at), 'latin1');
  bytes.fill(0x20, 148, 156);
  bytes.write(type === 'dir' ? '5' : '0', 156);
  bytes.write('ustar\x0000', 257, 'latin1');
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

async function* contentOf(dir: string): AsyncGenerator<Buffer, void> {
  for (const entry of await walk(dir)) {
    throwIfInterrupted();
    if (entry.type !== 'file' && entry.type !== 'dir')
      throw new UserError('only files and folders are written to a tar', { where: entry.full });
    const { mode, size: length } = await lstat(entry.full);
    const size = entry.type === 'file' ? length : 0;
    yield header(entry, size, mode & 0o777);
    if (size === 0) continue;
    let read = 0;
    for await (const chunk of createReadStream(entry.full, { end: size - 1 })) {
      throwIfInterrupted();
      read += (chunk as Buffer).length;
      yield chunk as Buffer;
    }
    if (read !== size) throw new UserError('the file became shorter while it was read', { where: entry.full });
    yield Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
  }
  yield Buffer.alloc(2 * BLOCK);
}

/**
 * Writes the files and folders below `dir` into a tar, sorted: the same content gives the same bytes. Names have up to 100 bytes. Throws a
 * UserError for anything but files and folders.
 */
export async function writeTar(dir: string, file: string): Promise<void> {
  await pipeline(contentOf(dir), createWriteStream(file, { flags: 'wx' }));
}
