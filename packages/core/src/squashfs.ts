import { open, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { UserError } from './errors.ts';
import { releaseFilePath } from './names.ts';
import { RELEASE_FILE_SIZE, STRICT_XATTR } from './release-file.ts';
import type { Tools } from './tools.ts';
import type { ImageEntry, Profile, Tree } from './types.ts';

/** Measured on 131 MB of Go programs: `fast` takes a fifteenth of the CPU of the defaults, `release` is a fifth smaller. */
const COMPRESSION: Readonly<Record<Profile, readonly string[]>> = {
  fast: ['-Xcompression-level', '3'],
  release: ['-Xcompression-level', '19', '-b', '1M'],
};

/** What a file system image says of itself. */
export interface FileSystemContent {
  readonly entries: readonly ImageEntry[];
  /** Byte offset in the image of a file's data; undefined unless it is one plain, whole block. */
  readonly plainBlock: (path: string) => number | undefined;
}

/**
 * Packs a staged tree as squashfs: zstd, all owned by root, fixed times, no attribute but the release file's.
 * The release file's data is one uncompressed block, the last data block, so that bind rewrites it in place and what
 * stands before it is hashed once for many targets.
 */
export async function packSquashfs(
  tools: Tools,
  tree: Tree,
  about: { name: string; kind: 'sysext' | 'confext'; profile: Profile },
  out: string,
): Promise<{ releaseFileOffset: number }> {
  const releaseFile = releaseFilePath(about.name, about.kind);
  const sort = join(dirname(out), 'sort');
  await writeFile(sort, `${releaseFile} -32768\n`);
  const file = releaseFile.split('/').at(-1) ?? '';
  await tools.run('mksquashfs', [
    tree.dir, out, '-noappend', '-no-progress', '-quiet', '-all-root', '-all-time', '0', '-mkfs-time', '0', '-root-mode', '0755',
    '-no-exports', '-comp', 'zstd', ...COMPRESSION[about.profile], '-sort', sort,
    '-action', `uncompressed@name(${file})`, '-action', `no-fragments@name(${file})`,
    '-xattrs-include', `^${STRICT_XATTR.replaceAll('.', '\\.')}$`,
  ]); // prettier-ignore
  const offset = (await readSquashfs(out)).plainBlock(releaseFile);
  if (offset === undefined)
    throw new UserError('the release file did not become a block of its own', {
      where: out,
      next: 'this is a defect of packSquashfs: please report it',
    });
  return { releaseFileOffset: offset };
}

// The format: Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h of Linux.
const MAGIC = 0x73717368;
const ZSTD = 6;
const NONE = 0xffffffff;
const PLAIN_METADATA = 0x8000;
const PLAIN_DATA = 1 << 24;
const TYPES = ['dir', 'file', 'link', 'block', 'char', 'fifo', 'socket'] as const;
const XATTR_PREFIX = ['user.', 'trusted.', 'security.'];
const MOST_METADATA = 256 << 20;

interface Inode {
  readonly type: (typeof TYPES)[number];
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly link?: string;
  readonly xattr: number;
  /** Of folders: where the listing is. */
  readonly listing?: { block: number; offset: number };
  /** Of files: where the data begins, the sizes of its blocks, whether a tail stands in a fragment. */
  readonly data?: { start: number; blocks: readonly number[]; fragment: boolean };
}

/** Metadata blocks (8 KiB each when unpacked) read as one stream from any place. */
class Metadata {
  private readonly bytes: Buffer;
  private readonly base: number;
  private readonly blocks = new Map<number, { data: Buffer; next: number }>();

  /** `bytes` are the image's from `base` on. */
  constructor(bytes: Buffer, base: number) {
    this.bytes = bytes;
    this.base = base;
  }

  u64(position: number): number {
    return Number(this.bytes.readBigUInt64LE(position - this.base));
  }

  u32(position: number): number {
    return this.bytes.readUInt32LE(position - this.base);
  }

  private block(position: number): { data: Buffer; next: number } {
    const there = this.blocks.get(position);
    if (there !== undefined) return there;
    const at = position - this.base;
    const header = this.bytes.readUInt16LE(at);
    const length = header & ~PLAIN_METADATA;
    const raw = this.bytes.subarray(at + 2, at + 2 + length);
    if (raw.length !== length) throw new RangeError('a metadata block is cut off');
    const block = {
      data: (header & PLAIN_METADATA) !== 0 ? raw : zstdDecompressSync(raw, { maxOutputLength: 8192 }),
      next: position + 2 + length,
    };
    this.blocks.set(position, block);
    return block;
  }

  /** Reads on from a place; `take(n)` gives the next n bytes. */
  stream(position: number, offset: number): (length: number) => Buffer {
    let block = this.block(position);
    let at = offset;
    return (length) => {
      if (length > MOST_METADATA) throw new RangeError('a length out of all proportion');
      const parts: Buffer[] = [];
      let missing = length;
      while (missing > 0) {
        if (at >= block.data.length) {
          at -= block.data.length;
          block = this.block(block.next);
        }
        const part = block.data.subarray(at, at + missing);
        parts.push(part);
        at += part.length;
        missing -= part.length;
      }
      return parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts, length);
    };
  }
}

function readInode(take: (length: number) => Buffer, ids: readonly number[], blockSize: number): Inode {
  const head = take(16);
  const kind = head.readUInt16LE(0);
  const type = TYPES[(kind - 1) % 7];
  if (kind < 1 || kind > 14 || type === undefined) throw new RangeError(`unknown inode type ${kind}`);
  const extended = kind > 7;
  const common = { type, mode: head.readUInt16LE(2) & 0o7777, uid: ids[head.readUInt16LE(4)] ?? -1, gid: ids[head.readUInt16LE(6)] ?? -1 };
  switch (type) {
    case 'dir': {
      const rest = take(extended ? 24 : 16);
      const size = extended ? rest.readUInt32LE(4) : rest.readUInt16LE(8);
      const block = rest.readUInt32LE(extended ? 8 : 0);
      const offset = rest.readUInt16LE(extended ? 18 : 10);
      // The stored size counts `.` and `..`, which are not stored.
      return { ...common, size: Math.max(size - 3, 0), xattr: extended ? rest.readUInt32LE(20) : NONE, listing: { block, offset } };
    }
    case 'file': {
      const rest = take(extended ? 40 : 16);
      const start = extended ? Number(rest.readBigUInt64LE(0)) : rest.readUInt32LE(0);
      const size = extended ? Number(rest.readBigUInt64LE(8)) : rest.readUInt32LE(12);
      const fragment = rest.readUInt32LE(extended ? 28 : 4) !== NONE;
      const count = fragment ? Math.floor(size / blockSize) : Math.ceil(size / blockSize);
      const sizes = take(count * 4);
      const blocks = Array.from({ length: count }, (_, index) => sizes.readUInt32LE(index * 4));
      return { ...common, size, xattr: extended ? rest.readUInt32LE(36) : NONE, data: { start, blocks, fragment } };
    }
    case 'link': {
      const length = take(8).readUInt32LE(4);
      const link = take(length).toString();
      return { ...common, size: 0, link, xattr: extended ? take(4).readUInt32LE(0) : NONE };
    }
    default: {
      const device = type === 'block' || type === 'char';
      take(device ? 8 : 4);
      return { ...common, size: 0, xattr: extended ? take(4).readUInt32LE(0) : NONE };
    }
  }
}

/** Ids are stored in metadata blocks that a list of pointers leads to. */
function readIds(metadata: Metadata, start: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) =>
    metadata
      .stream(
        metadata.u64(start + Math.floor((index * 4) / 8192) * 8),
        (index * 4) % 8192,
      )(4)
      .readUInt32LE(0),
  );
}

function readXattrs(metadata: Metadata, table: number, index: number): Record<string, string> {
  if (index === NONE) return {};
  const start = metadata.u64(table);
  const entry = metadata.stream(metadata.u64(table + 16 + Math.floor((index * 16) / 8192) * 8), (index * 16) % 8192)(16);
  const reference = Number(entry.readBigUInt64LE(0));
  const take = metadata.stream(start + Math.floor(reference / 65_536), reference % 65_536);
  const found: Record<string, string> = {};
  for (let left = entry.readUInt32LE(8); left > 0; left -= 1) {
    const head = take(4);
    const kind = head.readUInt16LE(0);
    const name = (XATTR_PREFIX[kind & 0xff] ?? '?.') + take(head.readUInt16LE(2)).toString();
    const value = take(take(4).readUInt32LE(0));
    // Values that several files share stand elsewhere, and a reference here; none of ours do.
    found[name] = (kind & 0x100) === 0 ? value.toString() : '(elsewhere)';
  }
  return found;
}

function readAll(header: Buffer, bytes: Buffer, base: number): FileSystemContent {
  const blockSize = header.readUInt32LE(12);
  const at = (offset: number): number => Number(header.readBigUInt64LE(offset));
  const [root, idTable, xattrTable, inodeTable, directoryTable] = [at(32), at(48), at(56), at(64), at(72)];
  const metadata = new Metadata(bytes, base);
  const ids = readIds(metadata, idTable, header.readUInt16LE(26));
  const inodeAt = (block: number, offset: number): Inode => readInode(metadata.stream(inodeTable + block, offset), ids, blockSize);
  const hasXattrs = xattrTable < 2 ** 52;
  const entries: ImageEntry[] = [];
  const plain = new Map<string, number>();

  function visit(path: string, inode: Inode): void {
    const { type, mode, uid, gid, size, link, xattr, data, listing } = inode;
    if (path !== '') {
      const xattrs = hasXattrs ? readXattrs(metadata, xattrTable, xattr) : {};
      entries.push({
        path,
        type,
        mode: type === 'link' ? 0o777 : mode,
        uid,
        gid,
        size: type === 'dir' ? 0 : size,
        ...(link === undefined ? {} : { link }),
        xattrs,
      });
    }
    if (data !== undefined && size === RELEASE_FILE_SIZE && !data.fragment && data.blocks[0] === (PLAIN_DATA | RELEASE_FILE_SIZE))
      plain.set(path, data.start);
    if (listing === undefined || size === 0) return;
    const take = metadata.stream(directoryTable + listing.block, listing.offset);
    for (let left = size; left > 0;) {
      const head = take(12);
      left -= 12;
      const block = head.readUInt32LE(4);
      for (let count = head.readUInt32LE(0) + 1; count > 0; count -= 1) {
        const entry = take(8);
        const name = take(entry.readUInt16LE(6) + 1).toString();
        left -= 8 + Buffer.byteLength(name);
        if (name === '.' || name === '..' || name.includes('/')) throw new RangeError(`a name '${name}'`);
        if (path.length > 4096) throw new RangeError('folders without end');
        visit(path === '' ? name : `${path}/${name}`, inodeAt(block, entry.readUInt16LE(0)));
      }
    }
  }
  visit('', inodeAt(Math.floor(root / 65_536), root % 65_536));
  entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  return { entries, plainBlock: (path) => plain.get(path) };
}

/**
 * Reads the metadata of a squashfs image (version 4, zstd): every entry, and where plain blocks stand. No file data is
 * read. Throws a UserError for what is damaged, cut off or no squashfs.
 */
export async function readSquashfs(file: string): Promise<FileSystemContent> {
  const handle = await open(file, 'r');
  try {
    const header = Buffer.alloc(96);
    await handle.read(header, 0, 96, 0);
    const { size } = await handle.stat();
    const used = Number(header.readBigUInt64LE(40));
    if (header.readUInt32LE(0) !== MAGIC) throw new RangeError('no squashfs');
    if (header.readUInt16LE(20) !== ZSTD) throw new RangeError('not packed with zstd');
    if (used > size) throw new RangeError(`${used} bytes long, and only ${size} of them are there`);
    const base = Number(header.readBigUInt64LE(64)); // inodes come first among the tables
    if (base > used || used - base > MOST_METADATA) throw new RangeError('tables in a wrong place');
    const bytes = Buffer.alloc(used - base);
    await handle.read(bytes, 0, bytes.length, base);
    return readAll(header, bytes, base);
  } catch (cause) {
    if (cause instanceof UserError || (cause as NodeJS.ErrnoException).syscall !== undefined) throw cause;
    throw new UserError(`the image cannot be read: ${(cause as Error).message}`, { where: file, next: 'build or fetch it again', cause });
  } finally {
    await handle.close();
  }
}
