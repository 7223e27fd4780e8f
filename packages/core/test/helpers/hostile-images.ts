// Images that no tool would make: small, and endless or far too large for a reader that believes them.

/** Folders that lead to one another: the inode of each, by the numbers of those that its entries lead to. */
export type Folders = readonly (readonly number[])[];

/** Forty levels whose two entries lead to the same folder: 2^40 paths. */
export const DAG: Folders = Array.from({ length: 40 }, (_, level) => (level === 39 ? [] : [level + 1, level + 1]));
/** A folder that holds itself. */
export const LOOP: Folders = [[1], [1]];

const nameOf = (index: number): string => String.fromCharCode(97 + index);

/** A metadata block of squashfs that is not packed. */
function plainBlock(bytes: Buffer): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16LE(0x8000 | bytes.length);
  return Buffer.concat([head, bytes]);
}

/** A squashfs of folders (Documentation/filesystems/squashfs.rst), all in plain metadata. */
export function squashfsOf(folders: Folders, { inodes = folders.length }: { inodes?: number } = {}): Buffer {
  const listings = folders.map((entries) => {
    if (entries.length === 0) return Buffer.alloc(0);
    const head = Buffer.alloc(12);
    head.writeUInt32LE(entries.length - 1, 0);
    return Buffer.concat([
      head,
      ...entries.map((to, index) => {
        const entry = Buffer.alloc(9);
        entry.writeUInt16LE(to * 32, 0); // offset of the inode
        entry.writeUInt16LE(1, 4);
        entry.write(nameOf(index), 8);
        return entry;
      }),
    ]);
  });
  let offset = 0;
  const table = listings.map((listing, index) => {
    const inode = Buffer.alloc(32);
    inode.writeUInt16LE(1, 0);
    inode.writeUInt16LE(0o755, 2);
    inode.writeUInt32LE(index + 1, 12);
    inode.writeUInt16LE(listing.length + 3, 24);
    inode.writeUInt16LE(offset, 26);
    offset += listing.length;
    return inode;
  });
  const [inodeTable, directoryTable] = [plainBlock(Buffer.concat(table)), plainBlock(Buffer.concat([...listings, Buffer.alloc(1)]))];
  const ids = plainBlock(Buffer.alloc(4));
  const [inodesAt, directoriesAt] = [96, 96 + inodeTable.length];
  const idsAt = directoriesAt + directoryTable.length;
  const pointer = Buffer.alloc(8);
  pointer.writeBigUInt64LE(BigInt(idsAt));
  const used = idsAt + ids.length + pointer.length;
  const superblock = Buffer.alloc(96);
  superblock.write('hsqs', 'latin1');
  superblock.writeUInt32LE(inodes, 4);
  superblock.writeUInt32LE(131_072, 12);
  superblock.writeUInt16LE(6, 20); // zstd
  superblock.writeUInt16LE(17, 22);
  superblock.writeUInt16LE(1, 26); // one id
  superblock.writeUInt16LE(4, 28);
  for (const [at, value] of [
    [32, 0n], // the root inode is the first
    [40, BigInt(used)],
    [48, BigInt(idsAt + ids.length)],
    [56, 0xffff_ffff_ffff_ffffn],
    [64, BigInt(inodesAt)],
    [72, BigInt(directoriesAt)],
    [80, 0xffff_ffff_ffff_ffffn],
    [88, 0xffff_ffff_ffff_ffffn],
  ] as const)
    superblock.writeBigUInt64LE(value, at);
  return Buffer.concat([superblock, inodeTable, directoryTable, ids, pointer]);
}

/** An erofs of folders (Documentation/filesystems/erofs.rst): compact inodes, each with its listing behind it, no checksum. */
export function erofsOf(folders: Folders, { inodes = folders.length }: { inodes?: number } = {}): Buffer {
  const SLOTS = 4;
  const image = Buffer.alloc(4096 * (1 + Math.ceil((folders.length * SLOTS * 32) / 4096)));
  image.writeUInt32LE(0xe0f5e1e2, 1024);
  image.writeUInt8(12, 1024 + 12);
  image.writeBigUInt64LE(BigInt(inodes), 1024 + 16);
  image.writeUInt32LE(image.length / 4096, 1024 + 36);
  image.writeUInt32LE(1, 1024 + 40); // inodes begin in block 1
  for (const [index, entries] of folders.entries()) {
    const at = 4096 + index * SLOTS * 32;
    image.writeUInt16LE(2 << 1, at); // inline
    image.writeUInt16LE(0o040755, at + 4);
    image.writeUInt32LE(entries.length * 13, at + 8);
    for (const [number, to] of entries.entries()) {
      const entry = at + 32 + number * 12;
      image.writeBigUInt64LE(BigInt(to * SLOTS), entry);
      image.writeUInt16LE(entries.length * 12 + number, entry + 8);
      image.writeUInt8(2, entry + 10);
      image.write(nameOf(number), at + 32 + entries.length * 12 + number);
    }
  }
  return image;
}

/** An ELF file of 336 bytes whose list of version needs claims 2^64 entries; `next` leads from each to the one behind it. */
export function elfOf({ next = 0, aux = 0, auxNext = 0 }: { next?: number; aux?: number; auxNext?: number } = {}): Buffer {
  const file = Buffer.alloc(336);
  Buffer.from('7f454c46020101', 'hex').copy(file);
  file.writeUInt16LE(3, 16);
  file.writeUInt16LE(62, 18);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(2, 56);
  const program = (at: number, type: number, offset: number, size: number): void => {
    file.writeUInt32LE(type, at);
    file.writeBigUInt64LE(BigInt(offset), at + 8);
    file.writeBigUInt64LE(BigInt(offset), at + 16);
    file.writeBigUInt64LE(BigInt(size), at + 32);
  };
  program(64, 1, 0, file.length);
  program(120, 2, 176, 80);
  const [strings, needs] = [256, 272];
  for (const [index, [tag, value]] of [
    [5n, BigInt(strings)],
    [10n, 16n],
    [0x6ffffffen, BigInt(needs)],
    [0x6fffffffn, 0xffff_ffff_ffff_ffffn],
  ].entries()) {
    file.writeBigUInt64LE(tag ?? 0n, 176 + index * 16);
    file.writeBigUInt64LE(value ?? 0n, 184 + index * 16);
  }
  file.write('\0GLIBC_2.36\0', strings, 'latin1');
  for (let at = needs; at + 16 <= file.length; at += 16) {
    file.writeUInt16LE(1, at);
    file.writeUInt16LE(aux, at + 2);
    file.writeUInt32LE(aux === 0 ? 1 : 0, at + 8); // of a need: its first version; of a version: its name
    file.writeUInt32LE(aux === 0 ? next : auxNext, at + 12);
  }
  return file;
}
