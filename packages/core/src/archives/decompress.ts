import { spawn } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ReadableStream } from 'node:stream/web';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { describeErrno } from '../util/errno.ts';
import { interruption } from '../util/interrupt.ts';
import { ByteReader, CHUNK, DamagedError } from './bytes.ts';

/** The compression of a file; undefined for a plain file. */
export type Compression = 'gzip' | 'zstd' | 'xz' | 'bzip2' | undefined;

/** A command that reads a compressed stream and writes the plain one: Node has no xz and bzip2. */
export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Returns the program that decompresses xz or bzip2. */
export type Decompressor = (kind: 'xz' | 'bzip2') => Promise<Command>;

/** Memory that a stream may make a decompressor use: somewhat more than the defaults of `zstd -d` and `xz -9`. */
const MEMORY = { zstdWindowLog: 27, xz: '1GiB' };

/** Passes bytes through a Node stream, which is destroyed when the reader stops or fails. */
async function* through(source: AsyncIterable<Buffer>, engine: Duplex): AsyncGenerator<Buffer, void> {
  const feeding = pipeline(source, engine);
  feeding.catch(() => undefined); // the engine reports the same error
  try {
    yield* engine as AsyncIterable<Buffer>;
  } finally {
    engine.destroy();
    await feeding.catch(() => undefined);
  }
}

/** All members of a gzip file (RFC 1952, 2.2). Node silently ends at the first byte that does not begin a member. */
async function* gunzip(source: AsyncIterable<Buffer>, size: number): AsyncGenerator<Buffer, void> {
  const engine = createGunzip({ chunkSize: CHUNK });
  yield* through(source, engine);
  if (engine.bytesWritten !== size) throw new DamagedError('there is data behind the end of the gzip stream');
}

/** Joins small portions: each write to a decompressor is a job for another thread. */
async function* joined(parts: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  let waiting: Buffer[] = [];
  let length = 0;
  for await (const part of parts) {
    waiting.push(part);
    length += part.length;
    if (length < CHUNK / 4) continue;
    yield Buffer.concat(waiting);
    [waiting, length] = [[], 0];
  }
  if (length > 0) yield Buffer.concat(waiting);
}

/** The bytes of one zstd frame (RFC 8878, 3.1.1) after its magic number; the headers of its blocks determine its end. */
async function* zstdFrame(bytes: ByteReader, magic: Buffer): AsyncGenerator<Buffer, void> {
  yield magic;
  const start = await bytes.exactly(1);
  yield start;
  const descriptor = start[0] ?? 0;
  const single = (descriptor >> 5) & 1;
  if ((descriptor & 0b1000) !== 0) throw new DamagedError('a zstd frame uses a reserved bit');
  if ((descriptor & 0b11) !== 0) throw new DamagedError('a zstd frame needs a dictionary');
  const sizeLength = [single, 2, 4, 8][descriptor >> 6] ?? 0;
  if (sizeLength + 1 - single > 0) yield await bytes.exactly(1 - single + sizeLength);
  for (let last = false; !last;) {
    const header = await bytes.exactly(3);
    const word = header.readUIntLE(0, 3);
    last = (word & 1) === 1;
    const [type, size] = [(word >> 1) & 0b11, word >> 3];
    // A block is at most 128 KiB; a block of one repeated byte contains only that byte.
    if (type === 3 || size > 128 << 10) throw new DamagedError('a zstd block is damaged');
    yield header;
    const length = type === 1 ? 1 : size;
    if (length > 0) yield await bytes.exactly(length);
  }
  if ((descriptor & 0b100) !== 0) yield await bytes.exactly(4);
}

/** All frames of a zstd file. Node's decompressor ends after the first one. */
async function* unzstd(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  const bytes = new ByteReader(source);
  try {
    do {
      const magic = await bytes.exactly(4);
      const word = magic.readUInt32LE();
      if (word === 0xfd2fb528) {
        const params = { [constants.ZSTD_d_windowLogMax]: MEMORY.zstdWindowLog };
        yield* through(joined(zstdFrame(bytes, magic)), createZstdDecompress({ chunkSize: CHUNK, params }));
      } else if (word >>> 4 === 0x184d2a5) {
        for await (const _ of bytes.stream((await bytes.exactly(4)).readUInt32LE())); // a skippable frame has no content
      } else throw new DamagedError('there is data that is not a zstd frame');
    } while (!(await bytes.atEnd()));
  } finally {
    await bytes.close();
  }
}

/** Passes bytes through a program. Its output is valid if it succeeded without a message: bzip2 only warns about garbage. */
async function* byProgram(
  source: AsyncIterable<Buffer>,
  kind: 'xz' | 'bzip2',
  { command, args, env }: Command,
): AsyncGenerator<Buffer, void> {
  // Files of several blocks, as dpkg writes them, are decompressed by several threads if memory allows.
  const limit = kind === 'xz' ? ['--threads=0', `--memlimit-decompress=${MEMORY.xz}`] : [];
  const child = spawn(command, [...args, '-dc', ...limit], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { LC_ALL: 'C', ...env },
    signal: interruption(),
    killSignal: 'SIGKILL',
  });
  let complaint = '';
  child.stderr.on('data', (chunk: Buffer) => (complaint = (complaint + chunk.toString()).slice(0, 2000)));
  let failure: unknown;
  child.once('error', (cause) => (failure = describeErrno(cause) ?? cause));
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
  const feeding = pipeline(source, child.stdin);
  feeding.catch(() => undefined); // the exit code shows why it stopped reading
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
    const code = await closed;
    if (failure !== undefined) throw failure;
    if (code !== 0 || complaint !== '') throw new DamagedError(`${kind}: ${complaint.trim() || `exit code ${code}`}`);
    await feeding;
  } finally {
    child.kill('SIGKILL');
    child.stdin.destroy();
    await closed;
    await feeding.catch(() => undefined);
  }
}

/**
 * Decompresses an xz file with a decoder in WebAssembly: a third as fast as xz, but without a program, since the pinned xz is itself in
 * packages that are compressed by xz. Reads all streams of a file and checks CRC32 and CRC64; refuses filters and dictionaries above 64 MiB.
 */
async function* unxz(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  const { default: xz } = await import('xz-decompress');
  let failure: unknown;
  const watched = (async function* (): AsyncGenerator<Buffer, void> {
    try {
      yield* source;
    } catch (error) {
      failure = error;
      throw error;
    }
  })();
  const plain = new xz.XzReadableStream(ReadableStream.from(watched));
  try {
    // A loop that ends early must cancel the stream, which releases the shared decoder.
    for await (const chunk of plain as unknown as AsyncIterable<Uint8Array>) if (chunk.length > 0) yield Buffer.from(chunk.buffer);
  } catch (cause) {
    if (failure !== undefined) throw failure;
    throw new DamagedError('the xz stream is damaged, cut off, or of a kind that is not supported', cause);
  }
}

/**
 * The plain bytes of a compressed stream of `size` bytes: of all its frames, members or streams.
 * Throws a DamagedError for a stream that is damaged, cut off or followed by other data, after yielding the bytes before the fault: the content is
 * valid only once the stream has ended. bzip2 needs a `decompressor`; xz is faster with one.
 */
export async function* decompress(
  source: AsyncIterable<Buffer>,
  size: number,
  compression: Compression,
  decompressor: Decompressor | undefined,
): AsyncGenerator<Buffer, void> {
  if (compression === undefined) yield* source;
  else if (compression === 'gzip') yield* gunzip(source, size);
  else if (compression === 'zstd') yield* unzstd(source);
  else if (decompressor !== undefined) yield* byProgram(source, compression, await decompressor(compression));
  else if (compression === 'xz') yield* unxz(source);
  else throw new DamagedError('bzip2 is not supported here');
}
