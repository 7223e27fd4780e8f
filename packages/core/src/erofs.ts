import { open, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { UserError } from './errors.ts';
import { releaseFilePath } from './names.ts';
import { RELEASE_FILE_SIZE, STRICT_XATTR } from './release-file.ts';
import type { FileSystemContent } from './squashfs.ts';
import type { Tools } from './tools.ts';
import type { ImageEntry, Profile, Tree } from './types.ts';

/** Flatcar's kernels know lz4 only; `release` is what Flatcar gives its own images (flatcar/scripts build_sysext). */
const COMPRESSION: Readonly<Record<Profile, readonly string[]>> = {
  fast: ['-zlz4'],
  release: ['-zlz4hc,12', '-C65536', '-Efragments,ztailpacking'],
};

/**
 * Packs a staged tree as erofs for a disk image: all owned by root, fixed times and UUID. A compress hint keeps the
 * release file's one block plain, so that bind rewrites it; the attribute comes with the staged file.
 */
export async function packErofs(
  tools: Tools,
  tree: Tree,
  about: { name: string; kind: 'sysext' | 'confext'; profile: Profile },
  out: string,
): Promise<{ releaseFileOffset: number }> {
  const hints = join(dirname(out), 'hints');
  await writeFile(hints, '0 extension-release\\..*\n');
  await tools.run('mkfs.erofs', [
    '--quiet', ...COMPRESSION[about.profile], `--compress-hints=${hints}`, '-T0', '--all-time', '--all-root', '-U00000000-0000-0000-0000-000000000000', out, tree.dir,
  ]); // prettier-ignore
  const path = releaseFilePath(about.name, about.kind);
  const content = await readErofs(out);
  const offset = content.plainBlock(path);
  // Block 0 holds the superblock and is covered by its checksum.
  if (offset === undefined || offset < 4096)
    throw new UserError('the release file did not become a block of its own', {
      where: out,
      next: 'this is a defect of packErofs: please report it',
    });
  const foreign = content.entries.flatMap((entry) =>
    Object.keys(entry.xattrs)
      .filter((name) => name !== STRICT_XATTR || entry.path !== path)
      .map((name) => `${entry.path}: ${name}`),
  );
  if (foreign.length > 0)
    throw new UserError(`the staged files carry attributes that must not be in an image: ${foreign.slice(0, 5).join(', ')}`, {
      where: tree.dir,
      next: 'set FLATCAR_EXT_CACHE to a folder whose file system adds none (no SELinux labels)',
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
const MOST = 64 << 20;

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

/**
 * Reads the metadata of an erofs image, or of one that begins at `start` in a disk image: every entry, and where plain
 * blocks stand. Throws a UserError for what is damaged, cut off or no erofs.
 */
export async function readErofs(file: string, start = 0): Promise<FileSystemContent> {
  const handle = await open(file, 'r');
  try {
    const { size: fileSize } = await handle.stat();
    const read = async (offset: number, length: number): Promise<Buffer> => {
      if (offset < 0 || length < 0 || length > MOST || start + offset + length > fileSize) throw new RangeError('it is cut off');
      const buffer = Buffer.alloc(length);
      await handle.read(buffer, 0, length, start + offset);
      return buffer;
    };
    const superblock = await read(SUPERBLOCK, 128);
    if (superblock.readUInt32LE(0) !== MAGIC) throw new RangeError('no erofs');
    const blockSize = 1 << superblock.readUInt8(12);
    if (blockSize !== 4096) throw new RangeError(`blocks of ${blockSize} bytes`);
    const metadata = superblock.readUInt32LE(40) * blockSize;
    const shared = superblock.readUInt32LE(44) * blockSize;
    if (start + superblock.readUInt32LE(36) * blockSize > fileSize) throw new RangeError('it is cut off');

    async function xattrsAt(offset: number, count: number): Promise<Record<string, string>> {
      if (count === 0) return {};
      const body = await read(offset, 12 + (count - 1) * 4);
      const found: Record<string, string> = {};
      const take = (bytes: Buffer, at: number): number => {
        const [nameLength, index, valueLength] = [bytes.readUInt8(at), bytes.readUInt8(at + 1), bytes.readUInt16LE(at + 2)];
        const name = bytes.toString('utf8', at + 4, at + 4 + nameLength);
        found[`${XATTR_PREFIX[index] ?? `${index}.`}${name}`] = bytes.toString(
          'utf8',
          at + 4 + nameLength,
          at + 4 + nameLength + valueLength,
        );
        return at + Math.ceil((4 + nameLength + valueLength) / 4) * 4;
      };
      const sharedCount = body.readUInt8(4);
      let at = 12 + sharedCount * 4;
      while (at + 4 <= body.length) at = take(body, at);
      for (let index = 0; index < sharedCount; index += 1) take(await read(shared + body.readUInt32LE(12 + index * 4) * 4, 4096), 0);
      return found;
    }

    async function inodeAt(nid: number) {
      const at = metadata + nid * SLOT;
      const head = await read(at, SLOT);
      const format = head.readUInt16LE(0);
      const extended = (format & 1) !== 0;
      const layout = (format >> 1) & 7;
      const xattrCount = head.readUInt16LE(2);
      const rawMode = head.readUInt16LE(4);
      const whole = extended ? await read(at, 2 * SLOT) : head;
      const size = extended ? Number(whole.readBigUInt64LE(8)) : whole.readUInt32LE(8);
      const [uid, gid] = extended ? [whole.readUInt32LE(24), whole.readUInt32LE(28)] : [whole.readUInt16LE(24), whole.readUInt16LE(26)];
      const xattrsStart = at + whole.length;
      const tail = xattrsStart + (xattrCount === 0 ? 0 : 12 + (xattrCount - 1) * 4);
      const blocks = whole.readUInt32LE(16) * blockSize;
      /** Bytes of what is stored plain: folders, links, small files. */
      const content = async (): Promise<Buffer> => {
        if (layout === LAYOUT.plain) return read(blocks, size);
        if (layout !== LAYOUT.inline) throw new RangeError('a packed folder or link');
        const full = Math.floor(size / blockSize) * blockSize;
        return Buffer.concat([full === 0 ? Buffer.alloc(0) : await read(blocks, full), await read(tail, size - full)]);
      };
      return {
        type: typeOf(rawMode),
        mode: rawMode & 0o7777,
        uid,
        gid,
        size,
        layout,
        blocks,
        content,
        xattrs: await xattrsAt(xattrsStart, xattrCount),
      };
    }

    const entries: ImageEntry[] = [];
    const plain = new Map<string, number>();
    async function visit(path: string, nid: number): Promise<void> {
      if (path.length > 4096) throw new RangeError('folders without end');
      const { type, mode, uid, gid, size, layout, blocks, content, xattrs } = await inodeAt(nid);
      if (path !== '') {
        const link = type === 'link' ? (await content()).toString() : undefined;
        entries.push({
          path,
          type,
          mode: type === 'link' ? 0o777 : mode,
          uid,
          gid,
          size: type === 'file' ? size : 0,
          ...(link === undefined ? {} : { link }),
          xattrs,
        });
      }
      if (type === 'file' && size === RELEASE_FILE_SIZE && layout === LAYOUT.plain) plain.set(path, start + blocks);
      if (type !== 'dir') return;
      const bytes = await content();
      for (let block = 0; block < bytes.length; block += blockSize) {
        const listing = bytes.subarray(block, block + blockSize);
        const count = listing.readUInt16LE(8) / 12;
        for (let index = 0; index < count; index += 1) {
          const begin = listing.readUInt16LE(index * 12 + 8);
          const end = index + 1 < count ? listing.readUInt16LE((index + 1) * 12 + 8) : listing.length;
          const name = listing.toString('utf8', begin, end).replace(/\0+$/, '');
          if (name === '.' || name === '..') continue;
          if (name === '' || name.includes('/')) throw new RangeError(`a name '${name}'`);
          await visit(path === '' ? name : `${path}/${name}`, Number(listing.readBigUInt64LE(index * 12)));
        }
      }
    }
    await visit('', superblock.readUInt16LE(14));
    entries.sort((a, b) => (a.path < b.path ? -1 : 1));
    return { entries, plainBlock: (path) => plain.get(path) };
  } catch (cause) {
    if (cause instanceof UserError || (cause as NodeJS.ErrnoException).syscall !== undefined) throw cause;
    throw new UserError(`the image cannot be read: ${(cause as Error).message}`, { where: file, next: 'build or fetch it again', cause });
  } finally {
    await handle.close();
  }
}
