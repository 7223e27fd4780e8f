import { open, rm } from 'node:fs/promises';
import { ByteReader, CHUNK, DamagedError, fileBytes } from '../archives/bytes.ts';
import { memberBytes, readDeb } from '../archives/deb.ts';
import { decompress, type Compression, type Decompressor } from '../archives/decompress.ts';
import { Extraction, type UnpackLimits } from '../archives/extraction.ts';
import { readTar } from '../archives/tar.ts';
import { unpackZip } from '../archives/zip.ts';
import { systemFailure } from '../util/errno.ts';
import { messageOf, UserError } from '../util/errors.ts';
import { mkdirPublic } from '../util/files.ts';
import { throwIfInterrupted } from '../util/interrupt.ts';

export type { Command } from '../archives/decompress.ts';

export interface UnpackOptions {
  /** Gives the program for `xz` or `bzip2`. Without one xz is decompressed more slowly, and bzip2 not at all. */
  readonly decompressor?: Decompressor | undefined;
  /** What an archive may grow to: 16 GiB, 200,000 entries and half an hour unless specified. */
  readonly limits?: Partial<UnpackLimits>;
  /** What the file of an archive that is a single one is called; by default as the archive, without the suffix of its compression. */
  readonly single?: string | undefined;
}

interface ArchiveKind {
  readonly archive: 'tar' | 'zip' | 'deb' | 'raw';
  readonly packed: Compression;
}

const COMPRESSIONS: Readonly<Record<string, Compression>> = {
  gz: 'gzip',
  xz: 'xz',
  zst: 'zstd',
  zstd: 'zstd',
  bz2: 'bzip2',
  bz: 'bzip2',
};

/** What a file is, by its name. `raw` is a single file, which may be compressed. */
export function archiveKind(name: string): ArchiveKind {
  if (name.endsWith('.zip')) return { archive: 'zip', packed: undefined };
  if (name.endsWith('.deb')) return { archive: 'deb', packed: undefined };
  if (name.endsWith('.tar')) return { archive: 'tar', packed: undefined };
  const [, before, compression = ''] = /(\.tar\.|\.t|\.)(gz|xz|zstd?|bz2?)$/.exec(name) ?? [];
  return { archive: before === undefined || before === '.' ? 'raw' : 'tar', packed: COMPRESSIONS[compression] };
}

async function unpackTar(plain: AsyncIterable<Buffer>, extraction: Extraction): Promise<void> {
  const bytes = new ByteReader(plain, (count) => extraction.count(count));
  try {
    for await (const entry of readTar(bytes, (path, why) => extraction.refuse(path, why))) {
      if (entry.type === 'dir') extraction.dir(entry.path, entry.mode);
      else if (entry.type === 'symlink') extraction.symlink(entry.path, entry.link);
      else if (entry.type === 'hardlink') extraction.hardlink(entry.path, entry.link);
      else await extraction.file(entry.path, entry.size, entry.mode, entry.content);
    }
  } finally {
    await bytes.close();
  }
}

async function* counted(plain: AsyncIterable<Buffer>, extraction: Extraction): AsyncGenerator<Buffer, void> {
  for await (const chunk of plain) {
    extraction.count(chunk.length);
    yield chunk;
  }
}

/** Unpacks an archive by its kind; ends when nothing runs any more. */
async function unpackKind(file: string, name: string, extraction: Extraction, options: UnpackOptions): Promise<void> {
  const { archive, packed } = archiveKind(name);
  if (archive === 'zip') return unpackZip(file, extraction);
  const handle = await open(file);
  try {
    if (archive === 'deb') return await unpackTar(memberBytes(handle, (await readDeb(handle)).data, options.decompressor), extraction);
    const { size } = await handle.stat();
    const plain = decompress(fileBytes(handle, 0, size), size, packed, options.decompressor);
    if (archive === 'tar') return await unpackTar(plain, extraction);
    const single = options.single ?? (packed === undefined ? name : name.replace(/\.[^.]+$/, ''));
    await extraction.file(single, undefined, 0o755, counted(plain, extraction));
  } finally {
    await handle.close();
  }
}

/** Anything thrown while unpacking as an error that a person can act on. */
function asRefusal(cause: unknown, name: string): unknown {
  if (cause instanceof UserError) return cause;
  return (
    systemFailure(cause) ??
    new UserError(`the archive is damaged or cut off: ${messageOf(cause)}`, {
      where: name,
      next: 'fetch it again; if that does not help, upstream published it broken',
      cause,
    })
  );
}

/**
 * Unpacks `file` into the folder `dest`, which it makes. `name` decides what the file is; a single file becomes an executable program.
 * Archives are hostile until shown otherwise: names and links that lead out, devices, duplicates, setuid, sparse files, bombs, wrong
 * checksums, streams that are cut off, and data behind their ends are refused with a UserError. On an error nothing is left of `dest`.
 */
export async function unpack(file: string, name: string, dest: string, options: UnpackOptions = {}): Promise<void> {
  await mkdirPublic(dest);
  const extraction = new Extraction(name, dest, { limits: options.limits });
  try {
    await unpackKind(file, name, extraction, options);
    extraction.finish();
  } catch (cause) {
    await rm(dest, { recursive: true, force: true });
    throwIfInterrupted();
    throw asRefusal(cause, name);
  }
}

/**
 * Unpacks a Debian package into a folder, which may have other packages already, for programs that know that it is one: its links are
 * those of a whole system. Devices, FIFOs and entries that lead out are refused; no file is setuid or setgid. On an error the folder is
 * left as it is, so it must be a temporary one.
 */
export async function unpackPackage(file: string, dest: string, options: Pick<UnpackOptions, 'decompressor'> = {}): Promise<void> {
  await mkdirPublic(dest);
  const extraction = new Extraction(file, dest, { distribution: true });
  try {
    await unpackKind(file, 'package.deb', extraction, options);
    extraction.finish();
  } catch (cause) {
    throwIfInterrupted();
    throw asRefusal(cause, file);
  }
}

/**
 * The plain content of a compressed file of up to `limit` bytes. Throws a UserError for a larger one, and for one that is damaged or cut off.
 */
export async function readCompressed(file: string, compression: Compression, limit: number): Promise<Buffer> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const parts: Buffer[] = [];
    const bytes = new ByteReader(decompress(fileBytes(handle, 0, size), size, compression, undefined), (count) => {
      limit -= count;
      if (limit < 0) throw new DamagedError('its content is too large');
    });
    try {
      while (!(await bytes.atEnd())) parts.push(await bytes.some(CHUNK));
    } finally {
      await bytes.close();
    }
    return Buffer.concat(parts);
  } catch (cause) {
    throw asRefusal(cause, file);
  } finally {
    await handle.close();
  }
}
