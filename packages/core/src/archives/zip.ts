import { open, type FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { crc32, createInflateRaw, inflateRawSync } from 'node:zlib';
import * as yauzl from 'yauzl';
import { CHUNK, DamagedError, fileBytes, readAt } from './bytes.ts';
import type { Extraction } from './extraction.ts';

// APPNOTE.TXT 6.3.10: 4.3.7 local file header, 4.3.9 data descriptor, 4.4.4 flags. yauzl reads the central directory; this file reads the headers
// before and behind an entry's data, which must match it.

const STORED = 0;
const DEFLATED = 8;
const LOCAL_HEADER = 30;
/** Types of files by the mode (stat(2), S_IFMT). */
const TYPES: Readonly<Record<number, string>> = {
  0o010000: 'a FIFO',
  0o020000: 'a character device',
  0o060000: 'a block device',
  0o120000: 'a link in a zip file',
  0o140000: 'a socket',
};
const FOLDER = 0o040000;
const REGULAR = 0o100000;

/** Position of an entry's data. */
interface Data {
  readonly start: number;
  readonly end: number;
  readonly hasDescriptor: boolean;
}

/** Reads an entry's local header, and refuses one that differs from the central directory. */
async function readLocal(handle: FileHandle, entry: yauzl.Entry, refuse: (why: string) => never): Promise<Data> {
  const at = entry.relativeOffsetOfLocalHeader;
  const header = await readAt(handle, at, LOCAL_HEADER);
  if (header.readUInt32LE(0) !== 0x04034b50) refuse('has no local header');
  const flags = header.readUInt16LE(6);
  const name = await readAt(handle, at + LOCAL_HEADER, header.readUInt16LE(26));
  const hasDescriptor = (flags & 8) !== 0;
  const differs = (offset: number, value: number): boolean => {
    const local = header.readUInt32LE(offset);
    if (hasDescriptor && local === 0) return false; // the descriptor behind the data has it
    return local !== value && !(offset !== 14 && local === 0xffffffff); // the size is in a zip64 field then
  };
  if (((flags | entry.generalPurposeBitFlag) & 1) !== 0) refuse('is encrypted');
  if (
    flags !== entry.generalPurposeBitFlag ||
    header.readUInt16LE(8) !== entry.compressionMethod ||
    !name.equals(entry.fileNameRaw) ||
    differs(14, entry.crc32) ||
    differs(18, entry.compressedSize) ||
    differs(22, entry.uncompressedSize)
  )
    refuse('has a local header that differs from the central directory');
  const start = at + LOCAL_HEADER + name.length + header.readUInt16LE(28);
  return { start, end: start + entry.compressedSize, hasDescriptor };
}

/** The end of a data descriptor, which may begin with a signature and have sizes of 4 or 8 bytes; refuses one that differs from the central directory. */
async function readDescriptor(
  handle: FileHandle,
  entry: yauzl.Entry,
  at: number,
  limit: number,
  refuse: (why: string) => never,
): Promise<number> {
  const bytes = await readAt(handle, at, Math.min(24, limit - at));
  for (const begin of bytes.length >= 4 && bytes.readUInt32LE(0) === 0x08074b50 ? [4, 0] : [0])
    for (const width of [4, 8]) {
      if (bytes.length < begin + 4 + 2 * width || bytes.readUInt32LE(begin) !== entry.crc32) continue;
      const size = (offset: number): number => (width === 4 ? bytes.readUInt32LE(offset) : Number(bytes.readBigUInt64LE(offset)));
      if (size(begin + 4) === entry.compressedSize && size(begin + 4 + width) === entry.uncompressedSize) return at + begin + 4 + 2 * width;
    }
  return refuse('has a data descriptor that differs from the central directory');
}

/** The plain bytes of an entry; checks its CRC-32 at the end. */
async function* contentOf(handle: FileHandle, entry: yauzl.Entry, data: Data, extraction: Extraction): AsyncGenerator<Buffer, void> {
  const refuse = (why: string): never => extraction.refuse(entry.fileName, why);
  let crc = 0;
  let size = 0;
  const checked = (chunk: Buffer): Buffer => {
    extraction.count(chunk.length);
    size += chunk.length;
    if (size > entry.uncompressedSize) refuse(`contains more than the ${entry.uncompressedSize} bytes that its header gives`);
    crc = crc32(chunk, crc);
    return chunk;
  };
  const packed = fileBytes(handle, data.start, data.end);
  let used = entry.compressedSize;
  if (entry.compressionMethod === STORED) {
    for await (const chunk of packed) yield checked(chunk);
  } else if (entry.compressedSize <= CHUNK && entry.uncompressedSize <= CHUNK) {
    // Streams for thousands of small files would take most of the time.
    const options = { info: true, maxOutputLength: entry.uncompressedSize + 1 } as const;
    const { buffer, engine } = inflateRawSync(await readAt(handle, data.start, entry.compressedSize), options) as unknown as {
      buffer: Buffer;
      engine: { bytesWritten: number };
    };
    used = engine.bytesWritten;
    yield checked(buffer);
  } else {
    const engine = createInflateRaw({ chunkSize: CHUNK });
    const source = Readable.from(packed);
    source.once('error', (error) => engine.destroy(error));
    try {
      for await (const chunk of source.pipe(engine)) yield checked(chunk as Buffer);
      used = engine.bytesWritten;
    } finally {
      source.destroy();
      engine.destroy();
    }
  }
  if (used !== entry.compressedSize) refuse('has data behind the end of its deflate stream');
  if (size === entry.uncompressedSize && crc !== entry.crc32) refuse('has a wrong CRC-32');
}

/** The mode of an entry, whose type must match its name; 0 in archives that were not made on Unix. */
function modeOf(entry: yauzl.Entry, refuse: (why: string) => never): number {
  const mode = entry.externalFileAttributes >>> 16;
  const type = mode & 0o170000;
  const isFolder = entry.fileName.endsWith('/');
  if (type !== 0 && type !== (isFolder ? FOLDER : REGULAR)) refuse(`is ${TYPES[type] ?? 'of a type that its name does not have'}`);
  if (isFolder && entry.uncompressedSize !== 0) refuse('is a folder with content');
  return mode & 0o7777;
}

/** Unpacks all entries in the order of their data. Refuses entries that overlap, and data that belongs to no entry. */
async function unpackEntries(handle: FileHandle, entries: readonly yauzl.Entry[], end: number, extraction: Extraction): Promise<void> {
  let at = 0;
  for (const entry of entries.toSorted((a, b) => a.relativeOffsetOfLocalHeader - b.relativeOffsetOfLocalHeader)) {
    const refuse = (why: string): never => extraction.refuse(entry.fileName, why);
    if (entry.relativeOffsetOfLocalHeader < at) refuse('overlaps the entry before it');
    if (entry.relativeOffsetOfLocalHeader > at) refuse('has data before it that belongs to no entry');
    const data = await readLocal(handle, entry, refuse);
    if (data.end > end) refuse('reaches into the central directory');
    const mode = modeOf(entry, refuse);
    if (entry.compressionMethod !== STORED && entry.compressionMethod !== DEFLATED)
      refuse(`is compressed by method ${entry.compressionMethod}`);
    if (entry.fileName.endsWith('/')) extraction.dir(entry.fileName, mode);
    else await extraction.file(entry.fileName, entry.uncompressedSize, mode, contentOf(handle, entry, data, extraction));
    at = data.hasDescriptor ? await readDescriptor(handle, entry, data.end, end, refuse) : data.end;
  }
  if (at !== end) throw new DamagedError('it has data between the last entry and the central directory');
}

/** Unpacks a zip file. Throws a DamagedError, or the refusal of the extraction. */
export async function unpackZip(file: string, extraction: Extraction): Promise<void> {
  const zip = await yauzl.openPromise(file, { strictFileNames: true, autoClose: false });
  try {
    const end = Number(zip.readEntryCursor); // the start of the central directory, until it is read
    const entries: yauzl.Entry[] = [];
    for await (const entry of zip.eachEntry()) {
      extraction.count(0);
      if (entries.push(entry) > extraction.limits.entries) extraction.refuse(entry.fileName, 'is one entry too many');
    }
    const handle = await open(file);
    try {
      await unpackEntries(handle, entries, end, extraction);
    } finally {
      await handle.close();
    }
  } finally {
    zip.close();
  }
}
