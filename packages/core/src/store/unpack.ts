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
  /** Returns the program for `xz` or `bzip2`. Without it, xz is slower and bzip2 is not supported. */
  readonly decompressor?: Decompressor | undefined;
  /** Limits for the content: 16 GiB, 200,000 entries and half an hour by default. */
  readonly limits?: Partial<UnpackLimits>;
  /** Name of the file in an archive that is a single file; by default the archive's name without the suffix of its compression. */
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

/** The kind of an archive, by its name. `raw` is a single file, which may be compressed. */
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

/** Unpacks an archive by its kind; resolves when nothing is running any more. */
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

/** Any error of unpacking as an error that a person can act on. */
function asRefusal(cause: unknown, name: string): unknown {
  if (cause instanceof UserError) return cause;
  return (
    systemFailure(cause) ??
    new UserError(`the archive is damaged or cut off: ${messageOf(cause)}`, {
      where: name,
      next: 'fetch it again; if that does not help, upstream published a broken file',
      cause,
    })
  );
}

/**
 * Unpacks `file` into the new folder `dest`. `name` determines the kind of the archive; a single file becomes an executable program.
 * Throws a UserError for a hostile archive: names and links that lead out, devices, duplicates, setuid, sparse files, bombs, wrong
 * checksums, streams that are cut off, and data behind their ends. Removes `dest` after an error.
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
 * Unpacks a Debian package into a folder, which may contain other packages. Callers must not follow its links, which are
 * those of a whole system. Throws a UserError for devices, FIFOs and entries that lead out; no file is setuid or setgid. The folder is
 * incomplete after an error, so it must be a temporary one.
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
 * The plain content of a compressed file, up to `limit` bytes. Throws a UserError for larger content, and for a file that is damaged or cut off.
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
