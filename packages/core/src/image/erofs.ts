import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { checkName, EntryCount, LONGEST_PATH, unreadable, withBounded, type BoundedFile } from '../util/bounded.ts';
import { UserError } from '../util/errors.ts';
import { exec } from '../util/exec.ts';
import { releaseFilePath } from '../model/names.ts';
import { RELEASE_FILE_SIZE, STRICT_XATTR } from './release-file.ts';
import type { FileSystemContent } from './content.ts';
import type { Tools } from '../tools/tools.ts';
import type { ImageEntry } from '../model/image.ts';
import type { Profile, Tree } from '../model/payload.ts';

/** Flatcar's kernels support lz4 only; `publish` has the options of Flatcar's own images (flatcar/scripts build_sysext). */
const COMPRESSION: Readonly<Record<Profile, readonly string[]>> = {
  fast: ['-zlz4'],
  publish: ['-zlz4hc,12', '-C65536', '-Efragments,ztailpacking'],
};

/**
 * Packs a staged tree as erofs for a disk image: owned by root, with fixed times and UUID. A compress hint keeps the
 * release file's one block plain, so that bind can rewrite it; the attribute comes from the staged file.
 */
export async function packErofs(
  tools: Tools,
  tree: Tree,
  about: { name: string; kind: 'sysext' | 'confext'; profile: Profile },
  out: string,
): Promise<{ releaseFileOffset: number }> {
  const hints = join(dirname(out), 'hints');
  await writeFile(hints, '0 extension-release\\..*\n');
  const { command, args, env } = await tools.command('mkfs.erofs');
  // The inode of all fragments gets the mode of a temporary file (erofs-utils, lib/fragments.c), so the umask decides bytes.
  const startArgs = ['-c', 'umask 022; exec "$@"', 'sh', command, ...args];
  const same = ['-T0', '--all-time', '--all-root', '-U00000000-0000-0000-0000-000000000000'];
  const flags = ['--quiet', ...COMPRESSION[about.profile], `--compress-hints=${hints}`, ...same, out, tree.dir];
  await exec('/bin/sh', flags, { name: 'mkfs.erofs', startArgs, env });
  const path = releaseFilePath(about.name, about.kind);
  const content = await readErofs(out);
  const offset = content.plainBlock(path);
  // Block 0 contains the superblock, whose checksum covers it.
  if (offset === undefined || offset < 4096)
    throw new UserError('the release file is not a separate block of the image', {
      where: out,
      next: 'please report this: it is a bug of packErofs',
    });
  const foreign = content.entries.flatMap((entry) =>
    Object.keys(entry.xattrs)
      .filter((name) => name !== STRICT_XATTR || entry.path !== path)
      .map((name) => `${entry.path}: ${name}`),
  );
  if (foreign.length > 0)
    throw new UserError(`the staged files have attributes that must not be in an image: ${foreign.slice(0, 5).join(', ')}`, {
      where: tree.dir,
      next: 'set FLATCAR_EXT_CACHE to a folder on a file system that adds no attributes (SELinux labels)',
    });
  return { releaseFileOffset: offset };
}

// The format: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of Linux.
const MAGIC = 0xe0f5e1e2;
const SUPERBLOCK = 1024;
const SLOT = 32;
const LAYOUT = { plain: 0, inline: 2 };
const XATTR_PREFIX: Readonly<Record<number, string>> = {
  1: 'user.',
  2: 'system.posix_acl_access',
  3: 'system.posix_acl_default',
  4: 'trusted.',
  6: 'security.',
};
/** Limit of the metadata that is read from an image: that of a million files. */
const MOST_METADATA = 256 << 20;
/** Largest attribute of an inode: an entry's header, the longest name, and a value whose length has 16 bits. */
const MOST_XATTR = 4 + 255 + 65_535;
/** feature_compat: the superblock has a checksum. */
const HAS_CHECKSUM = 1;

/** inode(7) file types. */
const typeOf = (mode: number): ImageEntry['type'] => {
  const types: Readonly<Record<number, ImageEntry['type']>> = {
    0o04: 'dir',
    0o10: 'file',
    0o12: 'link',
    0o02: 'char',
    0o06: 'block',
    0o01: 'fifo',
    0o14: 'socket',
  };
  const type = types[mode >> 12];
  if (type === undefined) throw new RangeError(`unknown file type ${mode.toString(8)}`);
  return type;
};

/** CRC-32C (RFC 3720, B.4) as erofs has it: without the last inversion. */
function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0x82f63b78);
  }
  return crc >>> 0;
}

/** Offsets of the parts of an erofs, in bytes from its start. */
interface Layout {
  readonly blockSize: number;
  readonly inodes: number;
  readonly shared: number;
  readonly root: number;
  /** Number of inodes, from the superblock. */
  readonly count: number;
}

/** Reads and checks the superblock. Its checksum covers the rest of its block; the tools of erofs report success when it is wrong. */
async function readSuperblock(read: (offset: number, length: number) => Promise<Buffer>, size: number): Promise<Layout> {
  const block = await read(SUPERBLOCK, 4096 - SUPERBLOCK);
  if (block.readUInt32LE(0) !== MAGIC) throw new RangeError('not an erofs');
  const blockSize = 2 ** block.readUInt8(12);
  if (blockSize !== 4096) throw new RangeError(`blocks of ${blockSize} bytes`);
  if ((block.readUInt32LE(8) & HAS_CHECKSUM) !== 0) {
    const stored = block.readUInt32LE(4);
    block.writeUInt32LE(0, 4);
    if (crc32c(block) !== stored) throw new RangeError('the superblock does not match its checksum');
  }
  if (block.readUInt32LE(36) * blockSize > size) throw new RangeError('it is cut off');
  const count = Number(block.readBigUInt64LE(16));
  if (count * SLOT > size) throw new RangeError(`${count} inodes do not fit into it`);
  return {
    blockSize,
    inodes: block.readUInt32LE(40) * blockSize,
    shared: block.readUInt32LE(44) * blockSize,
    root: block.readUInt16LE(14),
    count,
  };
}

/** The fields of an inode. */
interface Inode extends Pick<ImageEntry, 'type' | 'mode' | 'uid' | 'gid' | 'size' | 'xattrs'> {
  readonly layout: number;
  /** Where its blocks begin. */
  readonly blocks: number;
  /** Where its tail begins, which follows the inode. */
  readonly tail: number;
}

/** The inodes of an erofs that begins at `start`, each read once however many names it has. */
class Inodes {
  private readonly file: BoundedFile;
  private readonly start: number;
  private readonly layout: Layout;
  private readonly nodes = new Map<number, Inode>();
  private readonly shared = new Map<number, readonly [string, string]>();

  constructor(file: BoundedFile, start: number, layout: Layout) {
    this.file = file;
    this.start = start;
    this.layout = layout;
  }

  private read(offset: number, length: number): Promise<Buffer> {
    return this.file.read(this.start + offset, length);
  }

  private async sharedXattr(id: number): Promise<readonly [string, string]> {
    const there = this.shared.get(id);
    if (there !== undefined) return there;
    const at = this.layout.shared + id * 4;
    const head = await this.read(at, 4);
    const found = xattrAt(await this.read(at, Math.min(MOST_XATTR, 4 + head.readUInt8(0) + head.readUInt16LE(2))), 0).xattr;
    this.shared.set(id, found);
    return found;
  }

  private async xattrsAt(offset: number, count: number): Promise<Record<string, string>> {
    if (count === 0) return {};
    const body = await this.read(offset, 12 + (count - 1) * 4);
    const found: (readonly [string, string])[] = [];
    const sharedCount = body.readUInt8(4);
    for (let at = 12 + sharedCount * 4; at + 4 <= body.length;) {
      const { xattr, next } = xattrAt(body, at);
      found.push(xattr);
      at = next;
    }
    for (let index = 0; index < sharedCount; index += 1) found.push(await this.sharedXattr(body.readUInt32LE(12 + index * 4)));
    return Object.fromEntries(found);
  }

  async at(nid: number): Promise<Inode> {
    const there = this.nodes.get(nid);
    if (there !== undefined) return there;
    if (this.nodes.size >= this.layout.count) throw new RangeError(`more than its ${this.layout.count} inodes`);
    const at = this.layout.inodes + nid * SLOT;
    const head = await this.read(at, SLOT);
    const format = head.readUInt16LE(0);
    const extended = (format & 1) !== 0;
    const whole = extended ? Buffer.concat([head, await this.read(at + SLOT, SLOT)]) : head;
    const xattrCount = head.readUInt16LE(2);
    const rawMode = head.readUInt16LE(4);
    const size = extended ? Number(whole.readBigUInt64LE(8)) : whole.readUInt32LE(8);
    const [uid, gid] = extended ? [whole.readUInt32LE(24), whole.readUInt32LE(28)] : [whole.readUInt16LE(24), whole.readUInt16LE(26)];
    const xattrs = at + whole.length;
    const node: Inode = {
      type: typeOf(rawMode),
      mode: rawMode & 0o7777,
      uid,
      gid,
      size,
      layout: (format >> 1) & 7,
      blocks: whole.readUInt32LE(16) * this.layout.blockSize,
      tail: xattrs + (xattrCount === 0 ? 0 : 12 + (xattrCount - 1) * 4),
      xattrs: await this.xattrsAt(xattrs, xattrCount),
    };
    this.nodes.set(nid, node);
    return node;
  }

  /** The bytes of a folder or link, which must be stored plain. */
  async content({ layout, size, blocks, tail }: Inode): Promise<Buffer> {
    if (layout === LAYOUT.plain) return this.read(blocks, size);
    if (layout !== LAYOUT.inline) throw new RangeError('a packed folder or link');
    const full = Math.floor(size / this.layout.blockSize) * this.layout.blockSize;
    return Buffer.concat([full === 0 ? Buffer.alloc(0) : await this.read(blocks, full), await this.read(tail, size - full)]);
  }
}

/** An attribute's name and value, and where the next one begins. */
function xattrAt(bytes: Buffer, at: number): { xattr: readonly [string, string]; next: number } {
  const [nameLength, index, valueLength] = [bytes.readUInt8(at), bytes.readUInt8(at + 1), bytes.readUInt16LE(at + 2)];
  const [name, value] = [at + 4, at + 4 + nameLength];
  const end = value + valueLength;
  if (end > bytes.length) throw new RangeError('an attribute is cut off');
  return {
    xattr: [`${XATTR_PREFIX[index] ?? `${index}.`}${bytes.toString('utf8', name, value)}`, bytes.toString('utf8', value, end)],
    next: at + Math.ceil((end - at) / 4) * 4,
  };
}

/** Names in a folder and their inodes: each block has a table of entries, and behind it their names. */
function* listing(bytes: Buffer, blockSize: number): Generator<{ name: string; nid: number }> {
  for (let start = 0; start < bytes.length; start += blockSize) {
    const block = bytes.subarray(start, start + blockSize);
    const first = block.readUInt16LE(8);
    if (first === 0 || first % 12 !== 0 || first > block.length) throw new RangeError('a damaged folder');
    const count = first / 12;
    for (let index = 0; index < count; index += 1) {
      const begin = block.readUInt16LE(index * 12 + 8);
      const end = index + 1 < count ? block.readUInt16LE((index + 1) * 12 + 8) : block.length;
      // Buffer.toString would clip offsets beyond the block.
      if (begin > end || end > block.length) throw new RangeError('a damaged folder');
      const name = block.toString('utf8', begin, end).replace(/\0+$/, '');
      if (name !== '.' && name !== '..') yield { name: checkName(name), nid: Number(block.readBigUInt64LE(index * 12)) };
    }
  }
}

async function readAll(image: BoundedFile, start: number): Promise<FileSystemContent> {
  const layout = await readSuperblock((offset, length) => image.read(start + offset, length), image.size - start);
  const inodes = new Inodes(image, start, layout);
  const entries: ImageEntry[] = [];
  const plain = new Map<string, number>();
  const counted = new EntryCount();
  // A folder that is reached twice contains itself, or makes an endless tree.
  const folders = new Set<number>();
  const pending = [{ path: '', nid: layout.root }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { path, nid } = next;
    await counted.add(path);
    const inode = await inodes.at(nid);
    const { type, mode, uid, gid, size, xattrs } = inode;
    if (type === 'link' && size > LONGEST_PATH) throw new RangeError(`a link of ${size} bytes`);
    if (path !== '')
      entries.push({
        path,
        type,
        mode: type === 'link' ? 0o777 : mode,
        uid,
        gid,
        size: type === 'file' ? size : 0,
        link: type === 'link' ? (await inodes.content(inode)).toString() : undefined,
        xattrs,
      });
    if (type === 'file' && size === RELEASE_FILE_SIZE && inode.layout === LAYOUT.plain) plain.set(path, start + inode.blocks);
    if (type !== 'dir') continue;
    if (folders.has(nid)) throw new RangeError(`the folder '${path}' is in two places`);
    folders.add(nid);
    const names = new Set<string>();
    for (const { name, nid: its } of listing(await inodes.content(inode), layout.blockSize)) {
      if (names.has(name)) throw new RangeError(`two entries '${name}' in the folder '${path}'`);
      names.add(name);
      pending.push({ path: path === '' ? name : `${path}/${name}`, nid: its });
    }
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  return { entries, plainBlock: (path) => plain.get(path) };
}

/**
 * Reads the metadata of an erofs that begins at `start` of a file: every entry, and the offsets of plain blocks. What it reads is bounded by the
 * size of the file. Throws a UserError for a file that is not an erofs, damaged or cut off.
 */
export async function readErofs(file: string, start = 0): Promise<FileSystemContent> {
  try {
    // Each part is read once, except for links with several names.
    return await withBounded(
      file,
      (image) => readAll(image, start),
      (size) => Math.min(2 * size, MOST_METADATA),
    );
  } catch (cause) {
    throw unreadable(cause, 'the image', file);
  }
}
