import { open, type FileHandle } from 'node:fs/promises';
import { basename } from 'node:path';
import { UserError } from '../util/errors.ts';
import { ByteReader, DamagedError, fileBytes, readAt } from './bytes.ts';
import { decompress, type Compression } from './decompress.ts';
import { readTar } from './tar.ts';

// deb(5): an ar archive (Debian's common format, ar(5)) of debian-binary, control.tar and data.tar.

const AR_HEADER = 60;
/** Limit for a package's control files: the largest are lists of files of some MiB. */
const MAX_CONTROL = 64 << 20;

/** Position and compression of a tar in a package. */
export interface DebMember {
  readonly start: number;
  readonly size: number;
  readonly compression: Compression;
}

interface Member {
  readonly name: string;
  readonly start: number;
  readonly size: number;
}

/** The members of an ar archive, to its very end. */
async function readAr(handle: FileHandle): Promise<Member[]> {
  const { size: total } = await handle.stat();
  const members: Member[] = [];
  if (total < 8 || (await readAt(handle, 0, 8)).toString('latin1') !== '!<arch>\n') throw new DamagedError('it is not a Debian package');
  for (let at = 8; at < total;) {
    if (members.length === 16) throw new DamagedError('it has too many members for a Debian package');
    const header = (await readAt(handle, at, Math.min(AR_HEADER, total - at))).toString('latin1');
    const [name = '', size = ''] = [header.slice(0, 16), header.slice(48, 58)].map((field) => field.trimEnd());
    if (header.length !== AR_HEADER || header.slice(58) !== '`\n' || !/^\d+$/.test(size))
      throw new DamagedError('the header of a member is damaged');
    const start = at + AR_HEADER;
    at = start + Number(size) + (Number(size) % 2); // members begin at even offsets
    if (start + Number(size) > total) throw new DamagedError('it is cut off');
    members.push({ name: name.replace(/\/$/, ''), start, size: Number(size) });
  }
  return members;
}

const COMPRESSIONS: Readonly<Record<string, Compression>> = { '.gz': 'gzip', '.xz': 'xz', '.zst': 'zstd', '.bz2': 'bzip2' };

function tarMember({ name, start, size }: Member, expected: string): DebMember {
  const suffix = name.startsWith(`${expected}.tar`) ? name.slice(`${expected}.tar`.length) : undefined;
  if (suffix === undefined || (suffix !== '' && COMPRESSIONS[suffix] === undefined))
    throw new DamagedError(`'${name}' is not the ${expected}.tar that a Debian package must have here`);
  return { start, size, compression: COMPRESSIONS[suffix] };
}

/** The positions of the two tars in a package. Throws a DamagedError for anything that is not exactly a package. */
export async function readDeb(handle: FileHandle): Promise<{ readonly control: DebMember; readonly data: DebMember }> {
  // dpkg ignores names that begin with _, such as a signature.
  const [version, control, data, ...others] = (await readAr(handle)).filter(({ name }) => !name.startsWith('_'));
  if (version?.name !== 'debian-binary' || control === undefined || data === undefined || others.length > 0)
    throw new DamagedError('it does not have the three members of a Debian package');
  if (version.size > 64 || !/^2\.\d+\n/.test((await readAt(handle, version.start, version.size)).toString('latin1')))
    throw new DamagedError('it is a Debian package of an unknown version');
  return { control: tarMember(control, 'control'), data: tarMember(data, 'data') };
}

/** The plain bytes of a tar in a package. */
export async function* memberBytes(
  handle: FileHandle,
  { start, size, compression }: DebMember,
  decompressor: Parameters<typeof decompress>[3],
): AsyncGenerator<Buffer, void> {
  yield* decompress(fileBytes(handle, start, start + size), size, compression, decompressor);
}

/** The control files of a package by name (`control`, `postinst`), as text. Throws a UserError for a file that is not a package. */
export async function readControlFiles(file: string): Promise<Map<string, string>> {
  const handle = await open(file);
  try {
    const { control } = await readDeb(handle);
    const files = new Map<string, string>();
    let total = 0;
    const bytes = new ByteReader(memberBytes(handle, control, undefined), (count) => {
      total += count;
      if (total > MAX_CONTROL) throw new DamagedError('its control files are too large');
    });
    try {
      const refuse = (path: string, why: string): never => {
        throw new DamagedError(`'${path}' ${why}`);
      };
      for await (const { path, type, content } of readTar(bytes, refuse)) {
        if (type !== 'file') continue;
        files.set(path.replace(/^\.\//, ''), Buffer.concat(await Array.fromAsync(content)).toString());
      }
    } finally {
      await bytes.close();
    }
    return files;
  } catch (cause) {
    if (!(cause instanceof DamagedError)) throw cause;
    throw new UserError(`the package is damaged: ${cause.message}`, {
      where: basename(file),
      next: 'fetch it again; if that does not help, its archive has a damaged copy',
      cause,
    });
  } finally {
    await handle.close();
  }
}
