import { writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { checkName, EntryCount, LONGEST_PATH, unreadable, withBounded } from '../util/bounded.ts';
import { UserError } from '../util/errors.ts';
import { releaseFilePath } from '../model/names.ts';
import type { FileSystemContent } from './content.ts';
import { RELEASE_FILE_SIZE, STRICT_XATTR } from './release-file.ts';
import type { Tools } from '../tools/tools.ts';
import type { ImageEntry } from '../model/image.ts';
import type { Profile, Tree } from '../model/payload.ts';

/** Measured on 131 MB of Go programs: `fast` takes a fifteenth of the CPU of the defaults, `release` is a fifth smaller. */
const COMPRESSION: Readonly<Record<Profile, readonly string[]>> = {
  fast: ['-Xcompression-level', '3'],
  publish: ['-Xcompression-level', '19', '-b', '1M'],
};

/**
 * Packs a staged tree as squashfs: zstd, owned by root, with fixed times and no attribute but the release file's. The data of the release file
 * is one uncompressed block, the last data block, so that bind can rewrite it and hash the bytes before it once for many targets.
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
  const file = basename(releaseFile);
  const how = ['-noappend', '-no-progress', '-quiet', '-no-exports', '-comp', 'zstd', ...COMPRESSION[about.profile]];
  const same = ['-all-root', '-all-time', '0', '-mkfs-time', '0', '-root-mode', '0755'];
  const plain = ['-sort', sort, '-action', `uncompressed@name(${file})`, '-action', `no-fragments@name(${file})`];
  const attributes = ['-xattrs-include', `^${STRICT_XATTR.replaceAll('.', '\\.')}$`];
  await tools.run('mksquashfs', [tree.dir, out, ...how, ...same, ...plain, ...attributes]);
  const offset = (await readSquashfs(out)).plainBlock(releaseFile);
  if (offset === undefined)
    throw new UserError('the release file is not a separate block of the image', {
      where: out,
      next: 'please report this: it is a bug of packSquashfs',
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
/** Size of a metadata block when unpacked, and of the smallest packed one with its header. */
const METADATA_BLOCK = 8192;
const LEAST_BLOCK = 3;
/** Size of the smallest inode. */
const LEAST_INODE = 20;
/** Limit of the metadata, packed or not: that of a million files. */
const MOST_METADATA = 64 << 20;

interface Inode {
  readonly type: (typeof TYPES)[number];
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly link?: string;
  readonly xattr: number;
  /** For folders: where the listing is. */
  readonly listing?: { block: number; offset: number };
  /** For files: where the data begins, the size of the first block, whether a tail is in a fragment. */
  readonly data?: { start: number; first: number; fragment: boolean };
}

/**
 * Metadata blocks (8 KiB each when unpacked), read as one stream from any offset. An image has each inode, listing and attribute once, so the
 * size of its unpacked tables limits what is read.
 */
class Metadata {
  private readonly bytes: Buffer;
  private readonly base: number;
  private readonly blocks = new Map<number, { data: Buffer; next: number }>();
  /** Bytes that may still be read, and that may still be unpacked. */
  private left: number;
  private room: number;

  /** `bytes` are the image's from `base` on. */
  constructor(bytes: Buffer, base: number) {
    this.bytes = bytes;
    this.base = base;
    this.left = this.room = Math.min(MOST_METADATA, METADATA_BLOCK * Math.ceil(bytes.length / LEAST_BLOCK));
  }

  u64(position: number): number {
    return Number(this.bytes.readBigUInt64LE(position - this.base));
  }

  private block(position: number): { data: Buffer; next: number } {
    const there = this.blocks.get(position);
    if (there !== undefined) return there;
    const at = position - this.base;
    const header = this.bytes.readUInt16LE(at);
    const length = header & ~PLAIN_METADATA;
    const raw = this.bytes.subarray(at + 2, at + 2 + length);
    if (raw.length !== length || length === 0) throw new RangeError('a metadata block is cut off');
    const block = {
      data: (header & PLAIN_METADATA) !== 0 ? raw : zstdDecompressSync(raw, { maxOutputLength: METADATA_BLOCK }),
      next: position + 2 + length,
    };
    this.room -= block.data.length;
    if (this.room < 0) throw new RangeError('its metadata blocks overlap');
    this.blocks.set(position, block);
    return block;
  }

  /** Reads on from a place; `take(n)` gives the next n bytes. */
  stream(position: number, offset: number): (length: number) => Buffer {
    let block = this.block(position);
    let at = offset;
    return (length) => {
      this.left -= length;
      if (!(this.left >= 0)) throw new RangeError('more metadata than it has room for');
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
      const first = count === 0 ? 0 : sizes.readUInt32LE(0);
      return { ...common, size, xattr: extended ? rest.readUInt32LE(36) : NONE, data: { start, first, fragment } };
    }
    case 'link': {
      const length = take(8).readUInt32LE(4);
      if (length > LONGEST_PATH) throw new RangeError(`a link of ${length} bytes`);
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
    // A value that several files share is stored elsewhere; our images have none.
    found[name] = (kind & 0x100) === 0 ? value.toString() : '(elsewhere)';
  }
  return found;
}

/** An inode and its attributes, which several names may share. */
interface Node {
  readonly inode: Inode;
  readonly xattrs: Readonly<Record<string, string>>;
}

/** The inodes of an image, each read once however many names it has. */
function openInodes(header: Buffer, metadata: Metadata): (block: number, offset: number) => Node {
  const at = (position: number): number => Number(header.readBigUInt64LE(position));
  const [idTable, xattrTable, inodeTable, directoryTable] = [at(48), at(56), at(64), at(72)];
  const count = header.readUInt32LE(4);
  if (count * LEAST_INODE > METADATA_BLOCK * Math.ceil((directoryTable - inodeTable) / LEAST_BLOCK))
    throw new RangeError(`${count} inodes do not fit into it`);
  const ids = readIds(metadata, idTable, header.readUInt16LE(26));
  const hasXattrs = xattrTable < 2 ** 52;
  const nodes = new Map<number, Node>();
  const attributes = new Map<number, Readonly<Record<string, string>>>();
  return (block, offset) => {
    const reference = block * 65_536 + offset;
    const there = nodes.get(reference);
    if (there !== undefined) return there;
    if (nodes.size >= count) throw new RangeError(`more than its ${count} inodes`);
    const inode = readInode(metadata.stream(inodeTable + block, offset), ids, header.readUInt32LE(12));
    const xattrs = attributes.get(inode.xattr) ?? (hasXattrs ? readXattrs(metadata, xattrTable, inode.xattr) : {});
    attributes.set(inode.xattr, xattrs);
    const node = { inode, xattrs };
    nodes.set(reference, node);
    return node;
  };
}

/** Names in a folder, and where their inodes are. */
function* listing(take: (length: number) => Buffer, size: number): Generator<{ name: string; block: number; offset: number }> {
  for (let left = size; left > 0;) {
    const head = take(12);
    left -= 12;
    const block = head.readUInt32LE(4);
    for (let count = head.readUInt32LE(0) + 1; count > 0; count -= 1) {
      const entry = take(8);
      const name = take(entry.readUInt16LE(6) + 1);
      left -= 8 + name.length;
      if (left < 0) throw new RangeError('a folder lists more than it contains');
      yield { name: checkName(name.toString()), block, offset: entry.readUInt16LE(0) };
    }
  }
}

async function readAll(header: Buffer, bytes: Buffer, base: number): Promise<FileSystemContent> {
  const at = (position: number): number => Number(header.readBigUInt64LE(position));
  const [root, directoryTable] = [at(32), at(72)];
  const metadata = new Metadata(bytes, base);
  const nodeAt = openInodes(header, metadata);
  const entries: ImageEntry[] = [];
  const plain = new Map<string, number>();
  const count = new EntryCount();
  // A folder that is reached twice contains itself, or makes an endless tree.
  const folders = new Set<Node>();
  const pending = [{ path: '', node: nodeAt(Math.floor(root / 65_536), root % 65_536) }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { path, node } = next;
    const { type, mode, uid, gid, size, link, data, listing: place } = node.inode;
    await count.add(path);
    if (path !== '')
      entries.push({
        path,
        type,
        mode: type === 'link' ? 0o777 : mode,
        uid,
        gid,
        size: type === 'dir' ? 0 : size,
        link,
        xattrs: node.xattrs,
      });
    if (data !== undefined && size === RELEASE_FILE_SIZE && !data.fragment && data.first === (PLAIN_DATA | RELEASE_FILE_SIZE))
      plain.set(path, data.start);
    if (place === undefined) continue;
    if (folders.has(node)) throw new RangeError(`the folder '${path}' is in two places`);
    folders.add(node);
    if (size === 0) continue;
    const names = new Set<string>();
    for (const { name, block, offset } of listing(metadata.stream(directoryTable + place.block, place.offset), size)) {
      if (names.has(name)) throw new RangeError(`two entries '${name}' in the folder '${path}'`);
      names.add(name);
      pending.push({ path: path === '' ? name : `${path}/${name}`, node: nodeAt(block, offset) });
    }
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  return { entries, plainBlock: (path) => plain.get(path) };
}

/**
 * Reads the metadata of a squashfs image (version 4, zstd): every entry, and the offsets of plain blocks. Reads no file data; the size of the
 * tables bounds time and memory. Throws a UserError for a file that is not a squashfs, damaged or cut off.
 */
export async function readSquashfs(file: string): Promise<FileSystemContent> {
  try {
    return await withBounded(file, async (image) => {
      const header = await image.read(0, 96);
      const used = Number(header.readBigUInt64LE(40));
      if (header.readUInt32LE(0) !== MAGIC) throw new RangeError('not a squashfs');
      const blockSize = header.readUInt32LE(12);
      if (blockSize !== 2 ** header.readUInt16LE(22) || blockSize < 4096 || blockSize > 1 << 20)
        throw new RangeError(`blocks of ${blockSize} bytes`);
      if (header.readUInt16LE(20) !== ZSTD) throw new RangeError('not packed with zstd');
      if (used > image.size) throw new RangeError(`${used} bytes long, of which the file has ${image.size}`);
      const base = Number(header.readBigUInt64LE(64)); // inodes come first among the tables
      if (base > used || used - base > MOST_METADATA) throw new RangeError('its tables are at a wrong offset');
      return readAll(header, await image.read(base, used - base, MOST_METADATA), base);
    });
  } catch (cause) {
    throw unreadable(cause, 'the image', file);
  }
}
