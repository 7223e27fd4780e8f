import { spawn } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, copyFile, link, rm, symlink } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { Readable, type Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { Parser, type ReadEntry } from 'tar';
import * as yauzl from 'yauzl';
import { envOf } from './env.ts';
import { describeErrno, systemFailure } from './errno.ts';
import { messageOf, UserError } from './errors.ts';
import { mkdirPublic } from './files.ts';
import { DEFAULT_PATH } from './exec.ts';
import { interruption, throwIfInterrupted } from './interrupt.ts';

/** A command that reads a compressed stream and writes the plain one: xz and bzip2 are not in Node. */
export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface UnpackOptions {
  /** Gives the decompressor for `xz` or `bzip2`; the host's own program unless said. */
  readonly decompressor?: (kind: 'xz' | 'bzip2') => Promise<Command>;
  /** Only these paths are written; all are checked. */
  readonly only?: (path: string) => boolean;
  /** What an archive may grow to: 16 GiB and 200,000 entries unless said. */
  readonly limits?: { readonly bytes: number; readonly entries: number };
}

type Kind = { readonly archive: 'tar' | 'zip' | 'raw'; readonly packed: 'gzip' | 'zstd' | 'xz' | 'bzip2' | undefined };

/** What a file is, by its name. */
export function archiveKind(name: string): Kind {
  if (name.endsWith('.zip')) return { archive: 'zip', packed: undefined };
  const match = /\.(?:tar\.(gz|xz|zst|zstd|bz2)|(tgz|txz|tbz2?)|(tar))$/.exec(name);
  if (match === null) return { archive: 'raw', packed: undefined };
  const word = match[1] ?? match[2] ?? 'tar';
  const packed = word.endsWith('gz')
    ? 'gzip'
    : word.startsWith('zst')
      ? 'zstd'
      : word.endsWith('xz')
        ? 'xz'
        : /bz2?$/.test(word)
          ? 'bzip2'
          : undefined;
  return { archive: 'tar', packed };
}

const DEFAULT_LIMITS = { bytes: 16 * 2 ** 30, entries: 200_000 };

/** Says no to what an archive from outside must not hold, and writes the rest. */
class Extraction {
  private readonly kinds = new Map<string, 'dir' | 'file' | 'link'>();
  private readonly folders = new Set<string>();
  private bytes = 0;
  private count = 0;
  private readonly archive: string;
  private readonly dest: string;
  private readonly options: UnpackOptions;

  constructor(archive: string, dest: string, options: UnpackOptions) {
    this.archive = archive;
    this.dest = dest;
    this.options = options;
  }

  refuse(path: string, why: string): never {
    throw new UserError(`the archive is refused: '${path.slice(0, 200)}' ${why}`, {
      where: this.archive,
      next: 'do not use this archive; ask upstream about it',
    });
  }

  /** The entry's path inside dest, without `./`; undefined for the root itself. */
  private clean(path: string): string | undefined {
    // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
    if (/[\u0000-\u001f\u007f\\]/.test(path)) this.refuse(path, 'has control characters or backslashes in its name');
    if (path.startsWith('/')) this.refuse(path, 'is an absolute path');
    if (path.split('/').includes('..')) this.refuse(path, "leads out of the archive by '..'");
    const clean = normalize(path).replace(/\/+$/, '');
    return clean === '.' || clean === '' ? undefined : clean;
  }

  /** Checks the name against all that came before; returns false when it is not wanted. */
  private claim(raw: string, kind: 'dir' | 'file' | 'link'): string | undefined {
    this.count += 1;
    if (this.count > (this.options.limits ?? DEFAULT_LIMITS).entries) this.refuse(raw, 'is one entry too many');
    const path = this.clean(raw);
    if (path === undefined) return undefined;
    for (let parent = dirname(path); parent !== '.'; parent = dirname(parent)) {
      const there = this.kinds.get(parent);
      if (there === 'link' || there === 'file') this.refuse(raw, `lies below '${parent}', which is no folder`);
      this.kinds.set(parent, 'dir');
    }
    const before = this.kinds.get(path);
    if (before !== undefined && !(before === 'dir' && kind === 'dir')) this.refuse(raw, 'is there twice');
    this.kinds.set(path, kind);
    return this.options.only?.(path) === false ? undefined : path;
  }

  private account(raw: string, size: number): void {
    this.bytes += size;
    const { bytes } = this.options.limits ?? DEFAULT_LIMITS;
    if (this.bytes > bytes) this.refuse(raw, `makes the archive larger than ${bytes} bytes`);
  }

  /** Makes a folder with those above it; modes do not depend on the umask. */
  private async folder(path: string): Promise<void> {
    if (this.folders.has(path)) return;
    await mkdirPublic(join(this.dest, path));
    this.folders.add(path);
  }

  async dir(raw: string): Promise<void> {
    const path = this.claim(raw, 'dir');
    if (path !== undefined && this.options.only === undefined) await this.folder(path);
  }

  /** Writes a file, or drains it when it is not wanted. */
  async file(
    raw: string,
    size: number,
    mode: number,
    content: () => AsyncIterable<Buffer> | Promise<AsyncIterable<Buffer>>,
  ): Promise<void> {
    this.account(raw, size);
    if ((mode & 0o6000) !== 0) this.refuse(raw, 'is setuid or setgid');
    const path = this.claim(raw, 'file');
    if (path === undefined) {
      for await (const _ of await content());
      return;
    }
    await this.folder(dirname(path));
    let written = 0;
    const counted = async function* (source: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
      for await (const chunk of source) {
        throwIfInterrupted();
        written += chunk.length;
        yield chunk;
      }
    };
    const target = join(this.dest, path);
    await pipeline(counted(await content()), createWriteStream(target, { flags: 'wx' }));
    await chmod(target, mode & 0o111 ? 0o755 : 0o644);
    if (written !== size) this.refuse(raw, `holds ${written} bytes where its header says ${size}`);
  }

  async symlink(raw: string, target: string): Promise<void> {
    if (
      target.startsWith('/') ||
      normalize(join(dirname(raw), target))
        .split('/')
        .includes('..')
    )
      this.refuse(raw, `links out of the archive, to '${target}'`);
    const path = this.claim(raw, 'link');
    if (path === undefined) return;
    await this.folder(dirname(path));
    await symlink(target, join(this.dest, path));
  }

  async hardlink(raw: string, target: string): Promise<void> {
    const other = this.clean(target);
    if (other === undefined || this.kinds.get(other) !== 'file')
      this.refuse(raw, `is a hard link to '${target}', which is no file of the archive before it`);
    const path = this.claim(raw, 'file');
    if (path === undefined) return;
    await this.folder(dirname(path));
    await link(join(this.dest, other), join(this.dest, path));
  }
}

async function tarEntry(extraction: Extraction, entry: ReadEntry): Promise<void> {
  switch (entry.type) {
    case 'Directory':
    case 'GNUDumpDir':
      entry.resume();
      return extraction.dir(entry.path);
    case 'File':
    case 'OldFile':
    case 'ContiguousFile':
      return extraction.file(entry.path, entry.size, entry.mode ?? 0o644, () => {
        if (entry.destroyed) throw new Error('the archive was given up'); // it would give neither bytes nor an end
        return entry;
      });
    case 'SymbolicLink':
      entry.resume();
      return extraction.symlink(entry.path, entry.linkpath ?? '');
    case 'Link':
      entry.resume();
      return extraction.hardlink(entry.path, entry.linkpath ?? '');
    default:
      return extraction.refuse(entry.path, `is a ${entry.type}`);
  }
}

/** The plain bytes of a packed file. */
async function plain(file: string, packed: Kind['packed'], options: UnpackOptions): Promise<Readable> {
  const source = createReadStream(file, { highWaterMark: 1 << 20 });
  const through = (next: Duplex): Readable => {
    source.once('error', (error) => next.destroy(error));
    return source.pipe(next);
  };
  switch (packed) {
    case undefined:
      return source;
    case 'gzip':
      return through(createGunzip({ chunkSize: 1 << 20 }));
    case 'zstd':
      return through(createZstdDecompress({ chunkSize: 1 << 20 }));
    default: {
      const { command, args, env } = (await options.decompressor?.(packed)) ?? { command: packed, args: [] };
      const child = spawn(command, [...args, '-dc'], {
        stdio: ['pipe', 'pipe', 'pipe'],
        env: { PATH: envOf('PATH') ?? DEFAULT_PATH, ...env },
        signal: interruption(),
      });
      let complaint = '';
      child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
      child.stdin.on('error', () => undefined); // the exit code says why it stopped reading
      source.pipe(child.stdin);
      // End of output counts only once the program has said that all was well.
      return Readable.from(
        (async function* () {
          const closed = new Promise<void>((resolve, reject) => {
            child.once('error', (cause) => reject(describeErrno(cause) ?? cause));
            child.once('close', (code) =>
              code === 0 ? resolve() : reject(new Error(`${packed}: ${complaint.trim() || `exit code ${code}`}`)),
            );
          });
          closed.catch(() => undefined);
          yield* child.stdout;
          await closed;
        })(),
      );
    }
  }
}

async function unpackTar(file: string, packed: Kind['packed'], extraction: Extraction, options: UnpackOptions): Promise<void> {
  const source = await plain(file, packed, options);
  const written = new Map<ReadEntry, Promise<void>>();
  const parsed = new Promise<void>((resolve, reject) => {
    const parser = new Parser({ strict: true });
    let failed = false;
    const fail = (error: unknown): void => {
      failed = true;
      source.unpipe(parser);
      source.destroy();
      reject(
        error instanceof UserError
          ? error
          : (systemFailure(error) ??
              new UserError(`the archive is damaged or cut off: ${messageOf(error)}`, {
                where: file,
                next: 'fetch it again; if it stays so, upstream published it broken',
                cause: error,
              })),
      );
    };
    parser.on('entry', (entry: ReadEntry) => {
      if (failed) return entry.resume();
      const done = tarEntry(extraction, entry);
      written.set(entry, done);
      done.catch(fail);
    });
    // GNU sparse files and other oddities arrive here, and would be left out without a word.
    parser.on('ignoredEntry', (entry: ReadEntry) =>
      fail(new UserError(`the archive is refused: '${entry.path}' is a ${entry.type}`, { where: file })),
    );
    parser.on('error', fail);
    parser.on('end', () => void Promise.all(written.values()).then(() => resolve(), fail));
    source.on('error', fail);
    source.pipe(parser);
  });
  try {
    await parsed;
  } finally {
    // What is being written ends first: whoever removes the folder must be alone in it.
    for (const entry of written.keys()) entry.destroy();
    await Promise.allSettled(written.values());
  }
}

async function unpackZip(file: string, extraction: Extraction): Promise<void> {
  const zip = await yauzl.openPromise(file, { strictFileNames: true, validateEntrySizes: true, autoClose: true });
  for await (const entry of zip.eachEntry()) {
    const mode = entry.externalFileAttributes >>> 16;
    if (entry.fileName.endsWith('/')) await extraction.dir(entry.fileName);
    else if ((mode & 0o170000) === 0o120000) extraction.refuse(entry.fileName, 'is a link in a zip file');
    else await extraction.file(entry.fileName, entry.uncompressedSize, mode & 0o7777, async () => zip.openReadStreamPromise(entry));
  }
}

/**
 * Unpacks `file` into the folder `dest`, which it makes. `name` decides what the file is; what is no archive is copied
 * under its name, executable. Archives are hostile until shown otherwise: names that lead out, links out, devices,
 * duplicates, setuid, sparse files and bombs are refused. On an error nothing is left of `dest`.
 */
export async function unpack(file: string, name: string, dest: string, options: UnpackOptions = {}): Promise<void> {
  const { archive, packed } = archiveKind(name);
  await mkdirPublic(dest);
  const extraction = new Extraction(name, dest, options);
  try {
    if (archive === 'tar') await unpackTar(file, packed, extraction, options);
    else if (archive === 'zip') await unpackZip(file, extraction);
    else {
      await copyFile(file, join(dest, name));
      await chmod(join(dest, name), 0o755);
    }
  } catch (cause) {
    await rm(dest, { recursive: true, force: true });
    if (cause instanceof UserError) throw cause;
    throw (
      systemFailure(cause) ??
      new UserError(`the archive is damaged or refused: ${messageOf(cause)}`, {
        where: name,
        next: 'do not use this archive; ask upstream about it',
        cause,
      })
    );
  }
}
