import { DamagedError, type ByteReader } from './bytes.ts';

// POSIX.1-2024 pax, "ustar Interchange Format" and "pax Extended Header"; GNU's own types as in tar's manual, "Basic Tar Format".

const BLOCK = 512;
/** Limit for one extended header: names, and attributes that are not kept. */
const MAX_META = 1 << 20;
/** Padding behind the end: GNU tar fills a record, 10 KiB by default; tapes have larger ones. */
const MAX_PADDING = 1 << 20;

/** One entry of a tar. Content that is not read is skipped. */
export interface TarEntry {
  readonly path: string;
  readonly type: 'file' | 'dir' | 'symlink' | 'hardlink';
  readonly mode: number;
  readonly size: number;
  /** Target of a link. */
  readonly link: string;
  readonly content: AsyncIterable<Buffer>;
}

/** Throws the error for an entry that is not accepted. */
export type Refuse = (path: string, why: string) => never;

const SPECIAL: Readonly<Record<string, string>> = {
  '3': 'a character device',
  '4': 'a block device',
  '6': 'a FIFO',
  D: "a folder's dump of GNU tar",
  M: 'the continuation of a file on another volume',
  N: 'a long name of an old GNU tar',
  S: 'a sparse file',
  V: 'the name of a volume',
};

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function text(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  const part = end === -1 ? bytes : bytes.subarray(0, end);
  try {
    return utf8.decode(part);
  } catch {
    throw new DamagedError(`the name '${part.toString('latin1').slice(0, 100)}' is not UTF-8`);
  }
}

/** A number in a header: octal digits, or GNU's base-256 for larger ones. */
function number(bytes: Buffer, what: string): number {
  if (((bytes[0] ?? 0) & 0x80) !== 0) {
    const value = BigInt(`0x${bytes.toString('hex')}`) & ((1n << BigInt(bytes.length * 8 - 1)) - 1n);
    if ((bytes[0] ?? 0) === 0xff || value > BigInt(Number.MAX_SAFE_INTEGER))
      throw new DamagedError(`the ${what} in a header is out of range`);
    return Number(value);
  }
  const digits = bytes.toString('latin1').replaceAll(/^[ \0]+|[ \0].*$/gs, '');
  if (!/^[0-7]*$/.test(digits)) throw new DamagedError(`the ${what} in a header is not a number`);
  return digits === '' ? 0 : parseInt(digits, 8);
}

function checkSum(header: Buffer): void {
  let sum = 8 * 0x20;
  for (let at = 0; at < BLOCK; at += 1) if (at < 148 || at >= 156) sum += header[at] ?? 0;
  if (number(header.subarray(148, 156), 'checksum') !== sum) throw new DamagedError('a header has a wrong checksum, or this is not a tar');
}

/** The records of a pax extended header: `LENGTH KEY=VALUE\n`. */
function paxRecords(bytes: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < bytes.length;) {
    const blank = bytes.indexOf(0x20, at);
    const digits = blank === -1 ? '' : bytes.toString('latin1', at, blank);
    const end = at + Number(digits);
    const equals = bytes.indexOf(0x3d, blank);
    if (!/^[1-9]\d{0,7}$/.test(digits) || end > bytes.length || bytes[end - 1] !== 0x0a || equals === -1 || equals >= end)
      throw new DamagedError('a pax header is damaged');
    records.set(bytes.toString('latin1', blank + 1, equals), bytes.subarray(equals + 1, end - 1));
    at = end;
  }
  return records;
}

/** Properties of an entry that are set by headers before it. */
interface Meta {
  path?: string;
  link?: string;
  size?: number;
}

function readPax(bytes: Buffer, name: string, refuse: Refuse): Meta {
  const meta: Meta = {};
  for (const [key, value] of paxRecords(bytes)) {
    if (key.startsWith('GNU.sparse.') || key === 'SCHILY.realsize') refuse(name, 'is a sparse file');
    if (key === 'path' || key === 'linkpath') {
      if (value.includes(0)) throw new DamagedError('a name in a pax header has a NUL');
      meta[key === 'path' ? 'path' : 'link'] = text(value);
    } else if (key === 'size') {
      const size = value.toString('latin1');
      if (!/^\d{1,15}$/.test(size)) throw new DamagedError('the size in a pax header is not a number');
      meta.size = Number(size);
    }
  }
  return meta;
}

/** Headers for all that follow: comments only, such as the commit that git writes. */
function readGlobal(bytes: Buffer, name: string, refuse: Refuse): void {
  for (const key of paxRecords(bytes).keys())
    if (/^(?:path|linkpath|size|hdrcharset|GNU\.|SCHILY\.)/.test(key)) refuse(name, `sets '${key}' for all entries that follow`);
}

function pathOf(header: Buffer): string {
  const name = text(header.subarray(0, 100));
  // Only POSIX has a prefix here: GNU's older format has times.
  const prefix = header.toString('latin1', 257, 263) === 'ustar\0' ? text(header.subarray(345, 500)) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

const ZEROS = Buffer.alloc(BLOCK * 20);
const isZero = (bytes: Buffer): boolean => bytes.equals(ZEROS.subarray(0, bytes.length));

/** Reads the blocks after the first block of the end: the second one, and zeros up to the end of a record. */
async function readEnd(bytes: ByteReader): Promise<void> {
  const second = await bytes.upTo(BLOCK);
  if (second.length < BLOCK) throw new DamagedError('the second half of its end is missing');
  if (!isZero(second)) throw new DamagedError('it has entries behind an empty block');
  for (let padding = 0; ;) {
    const part = await bytes.some(ZEROS.length);
    if (part.length === 0) return;
    padding += part.length;
    if (!isZero(part)) throw new DamagedError('it has data behind its end');
    if (padding > MAX_PADDING) throw new DamagedError(`it has more than ${MAX_PADDING} bytes behind its end`);
  }
}

async function readMeta(bytes: ByteReader, size: number): Promise<Buffer> {
  if (size > MAX_META) throw new DamagedError(`an extended header is larger than ${MAX_META} bytes`);
  const content = await bytes.exactly(Math.ceil(size / BLOCK) * BLOCK);
  return content.subarray(0, size);
}

/** The type of an entry by its flag and path. Only files may have content: writers differ in whether other entries with a size are followed by it. */
function typeOf(flag: string, path: string, size: number, refuse: Refuse): TarEntry['type'] {
  if (flag === '0' || flag === '\0' || flag === '7') {
    if (!path.endsWith('/')) return 'file';
    flag = '5'; // older than POSIX
  }
  const type = ({ '1': 'hardlink', '2': 'symlink', '5': 'dir' } as const)[flag];
  if (type === undefined) return refuse(path, `is ${SPECIAL[flag] ?? `of the unknown type ${JSON.stringify(flag)}`}`);
  if (size !== 0) refuse(path, `is a ${type} with content`);
  return type;
}

/**
 * The entries of a tar, up to its end: two blocks of zeros, followed by nothing but zeros. Names may be set by pax and
 * GNU headers. Throws a DamagedError, or the error of `refuse`.
 */
export async function* readTar(bytes: ByteReader, refuse: Refuse): AsyncGenerator<TarEntry, void> {
  let meta: Meta = {};
  for (;;) {
    const header = await bytes.upTo(BLOCK);
    if (header.length === 0) throw new DamagedError('it is cut off: its end is missing');
    if (header.length < BLOCK) throw new DamagedError('it ends in the middle of a header');
    if (header[0] === 0 && isZero(header)) break;
    checkSum(header);
    const flag = String.fromCharCode(header[156] ?? 0);
    const size = number(header.subarray(124, 136), 'size');
    const name = pathOf(header);
    if (flag === 'x' || flag === 'X') Object.assign(meta, readPax(await readMeta(bytes, size), name, refuse));
    else if (flag === 'g') readGlobal(await readMeta(bytes, size), name, refuse);
    else if (flag === 'L') meta.path = text(await readMeta(bytes, size));
    else if (flag === 'K') meta.link = text(await readMeta(bytes, size));
    else {
      const path = meta.path ?? name;
      const length = meta.size ?? size;
      const type = typeOf(flag, path, length, refuse);
      let read = 0;
      const content = (async function* (): AsyncGenerator<Buffer, void> {
        for await (const part of bytes.stream(length)) {
          read += part.length;
          yield part;
        }
      })();
      const mode = number(header.subarray(100, 108), 'mode') & 0o7777;
      yield { path, type, mode, size: length, link: meta.link ?? text(header.subarray(157, 257)), content };
      for await (const _ of bytes.stream(length - read));
      await bytes.exactly((BLOCK - (length % BLOCK)) % BLOCK);
      meta = {};
      continue;
    }
  }
  if (Object.keys(meta).length > 0) throw new DamagedError('it ends after the header of an entry');
  await readEnd(bytes);
}
