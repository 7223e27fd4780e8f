import { createHash } from 'node:crypto';
import { stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { unreadable, withBounded, type BoundedFile } from '../util/bounded.ts';
import { makeFolder } from '../util/files.ts';
import { UserError } from '../util/errors.ts';
import { parseJson } from '../util/json.ts';
import { inThread, isWorthAThread } from '../util/threads.ts';
import type { Tools } from '../tools/tools.ts';
import type { Arch } from '../model/arch.ts';

/** Key and certificate (PEM files) that sign the roothash. */
export interface SignKeys {
  readonly key: string;
  readonly certificate: string;
}

/** A UUID (version 4 in form) computed from a text, so that the same input gives the same partition ids. */
export function uuidFrom(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex');
  const variant = ((Number.parseInt(hex.charAt(16), 16) & 3) | 8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** Bytes that libfdisk reserves before the first partition (a megabyte, except on the smallest disks) and after the last. */
const TABLES_SIZE = (1 << 20) + 20_480;
/** repart.c: VERITY_SIG_SIZE. */
const SIGNATURE_SIZE = 16_384;

/** Blocks of each level of a verity tree, the lowest first: a block of 4096 bytes holds 128 hashes of sha256. */
function hashBlocks(dataBlocks: number): number[] {
  const counts: number[] = [];
  for (let count = dataBlocks; count > 1 || counts.length === 0;) {
    count = Math.ceil(count / 128);
    counts.push(count);
  }
  return counts;
}

/** The fields of systemd-repart's output that are used. */
const RepartOutput = v.array(v.object({ roothash: v.nullish(v.string()) }));

/**
 * Makes a disk image (GPT; UAPI.3) around an erofs in a temporary folder: root, its dm-verity hashes and, with keys, the signature of the roothash.
 * Works without root and without device mapper. Returns the roothash (hex).
 */
export async function makeDdi(
  tools: Tools,
  erofs: string,
  about: { arch: Arch; seed: string; sign?: SignKeys | undefined },
  out: string,
): Promise<{ roothash: string; signed: boolean }> {
  const { arch, seed, sign } = about;
  const { size } = await stat(erofs);
  const hashSize = 4096 * (1 + hashBlocks(size / 4096).reduce((sum, count) => sum + count, 0));
  const definitions = join(dirname(erofs), 'repart.d');
  await makeFolder(definitions);
  const parts = [
    ['10-root', `Type=root-${arch}`, `CopyBlocks=${erofs}`, 'Verity=data', `SizeMaxBytes=${size}`],
    [
      '20-root-verity',
      `Type=root-${arch}-verity`,
      'Verity=hash',
      'VerityDataBlockSizeBytes=4096',
      'VerityHashBlockSizeBytes=4096',
      'Minimize=best',
    ],
    ...(sign === undefined ? [] : [['30-root-verity-sig', `Type=root-${arch}-verity-sig`, 'Verity=signature']]),
  ];
  for (const [name, ...lines] of parts)
    await writeFile(join(definitions, `${name}.conf`), `[Partition]\n${lines.join('\n')}\nVerityMatchKey=root\n`);
  const total = TABLES_SIZE + size + hashSize + (sign === undefined ? 0 : SIGNATURE_SIZE);
  const how = ['--offline=yes', '--empty=create', '--dry-run=no', '--no-pager', '--json=short'];
  const what = [`--definitions=${definitions}`, `--size=${total}`, `--seed=${uuidFrom(seed)}`, `--architecture=${arch}`];
  const keys = sign === undefined ? [] : [`--private-key=${sign.key}`, `--certificate=${sign.certificate}`];
  const printed = await tools.run('systemd-repart', [...how, ...what, ...keys, out]);
  const json = printed.slice(printed.indexOf('['), printed.lastIndexOf(']') + 1);
  const roothash = parseJson(RepartOutput, json, { what: 'output of systemd-repart', where: out })
    .map((part) => part.roothash)
    .find((hash): hash is string => typeof hash === 'string' && /^[0-9a-f]{64}$/.test(hash));
  if (roothash === undefined) throw new UserError('the output of systemd-repart has no roothash', { where: out });
  return { roothash, signed: sign !== undefined };
}

/** A partition of a disk image. */
export interface Partition {
  readonly type: string;
  readonly uuid: string;
  /** In bytes from the start of the image. */
  readonly offset: number;
  readonly size: number;
}

// Discoverable Partitions Specification (UAPI.2): type UUIDs of root, root-verity and root-verity-sig.
export const PARTITION_TYPES: Readonly<Record<Arch, { root: string; verity: string; signature: string }>> = {
  'x86-64': {
    root: '4f68bce3-e8cd-4db1-96e7-fbcaf984b709',
    verity: '2c7357ed-ebd2-46d9-aec1-23d437ec2bf5',
    signature: '41092b05-9fc8-4523-994f-2def0408b176',
  },
  arm64: {
    root: 'b921b045-1df0-41c3-af44-4c6f280d3fae',
    verity: 'df3300ce-d69f-4c92-978c-9bfb0f38d820',
    signature: '6db69de6-29f4-4758-a7a5-962190f00ce3',
  },
};

/** The mixed-endian form of UUIDs in a GPT (UEFI, appendix A). */
function guid(bytes: Buffer): string {
  const hex = (from: number, to: number, little: boolean): string =>
    Buffer.from(little ? bytes.subarray(from, to).toReversed() : bytes.subarray(from, to)).toString('hex');
  return [hex(0, 4, true), hex(4, 6, true), hex(6, 8, true), hex(8, 10, false), hex(10, 16, false)].join('-');
}

const SECTOR = 512;

async function readTable(image: BoundedFile, where: string): Promise<Partition[]> {
  const next = 'build or fetch it again';
  if (image.size < 2 * SECTOR) throw new UserError('not a disk image: it has no GPT', { where });
  const header = await image.read(SECTOR, 92);
  if (header.toString('latin1', 0, 8) !== 'EFI PART') throw new UserError('not a disk image: it has no GPT', { where });
  const [start, count, width] = [Number(header.readBigUInt64LE(72)) * SECTOR, header.readUInt32LE(80), header.readUInt32LE(84)];
  if (count > 1024 || width < 128 || width > 4096) throw new UserError('the partition table is damaged', { where, next });
  const table = await image.read(start, count * width);
  return Array.from({ length: count }, (_, index) => table.subarray(index * width, (index + 1) * width))
    .filter((entry) => entry.subarray(0, 16).some((byte) => byte !== 0))
    .map((entry) => {
      const [first, last] = [Number(entry.readBigUInt64LE(32)) * SECTOR, (Number(entry.readBigUInt64LE(40)) + 1) * SECTOR];
      if (last > image.size || first >= last) throw new UserError('the disk image is cut off', { where, next });
      return { type: guid(entry.subarray(0, 16)), uuid: guid(entry.subarray(16, 32)), offset: first, size: last - first };
    });
}

/** The partitions of a disk image (UEFI 5.3: GPT with sectors of 512 bytes). Throws a UserError for a file that is not a disk image, damaged or cut off. */
export async function readPartitions(file: string): Promise<Partition[]> {
  try {
    return await withBounded(file, (image) => readTable(image, file));
  } catch (cause) {
    throw unreadable(cause, 'the partition table', file);
  }
}

/** Size limit of the data partition whose hashes are computed, in bytes: update payloads are limited to half of it. */
const MOST_DATA = 8 * 2 ** 30;
const BLOCK = 4096;

/** The number of blocks and the salt in a verity superblock (Documentation/admin-guide/device-mapper/verity.rst, and cryptsetup's on-disk format). */
async function readVeritySuperblock(image: BoundedFile, data: Partition, hashes: Partition): Promise<{ blocks: number; salt: Buffer }> {
  const superblock = await image.read(hashes.offset, 512);
  if (superblock.toString('latin1', 0, 6) !== 'verity') throw new RangeError('it has no superblock');
  const blocks = Number(superblock.readBigUInt64LE(72));
  const saltSize = superblock.readUInt16LE(80);
  if (saltSize > 256) throw new RangeError(`a salt of ${saltSize} bytes`);
  if (blocks === 0) throw new RangeError('it covers nothing');
  if (blocks * BLOCK > data.size) throw new RangeError('it covers more than the data partition');
  if (blocks * BLOCK > MOST_DATA) throw new RangeError(`it covers more than ${MOST_DATA} bytes`);
  return { blocks, salt: superblock.subarray(88, 88 + saltSize) };
}

/** The hashes of a partition's blocks, one after the other: the lowest level of its tree. */
async function hashPartition(image: BoundedFile, offset: number, blocks: number, hash: (block: Buffer) => Buffer): Promise<Buffer> {
  const level = Buffer.alloc(blocks * 32);
  let block = 0;
  await image.each(offset, blocks * BLOCK, (chunk) => {
    for (let at = 0; at < chunk.length; at += BLOCK, block += 1) hash(chunk.subarray(at, at + BLOCK)).copy(level, block * 32);
  });
  return level;
}

/**
 * Computes a disk image's roothash from its data as dm-verity does (sha256, blocks of 4096 bytes, salt of the verity
 * superblock), and compares every level with the stored hashes. Throws a UserError where they differ; returns the roothash (hex). Another thread
 * reads large images.
 */
export async function verifyVerity(file: string, arch: Arch): Promise<string> {
  if (isWorthAThread((await stat(file)).size)) return (await inThread(import.meta.url, 'verifyVerity', file, arch)) as string;
  const partitions = await readPartitions(file);
  const types = PARTITION_TYPES[arch];
  const data = partitions.find(({ type }) => type === types.root);
  const hashes = partitions.find(({ type }) => type === types.verity);
  if (data === undefined || hashes === undefined)
    throw new UserError('the disk image has no root partition with verity for this architecture', { where: file });
  try {
    return await withBounded(file, async (image) => {
      const { blocks, salt } = await readVeritySuperblock(image, data, hashes);
      const salted = createHash('sha256').update(salt);
      const hash = (block: Buffer): Buffer => salted.copy().update(block).digest();
      const counts = hashBlocks(blocks);
      // The superblock comes first, then the levels from the top: the lowest one is last.
      let position = hashes.offset + BLOCK * (1 + counts.reduce((sum, count) => sum + count, 0));
      if (position > hashes.offset + hashes.size) throw new RangeError('it is cut off');
      let level = await hashPartition(image, data.offset, blocks, hash);
      for (const count of counts) {
        position -= count * BLOCK;
        const padded = Buffer.alloc(count * BLOCK);
        level.copy(padded);
        if (!(await image.read(position, padded.length, MOST_DATA / 128)).equals(padded))
          throw new UserError('the data does not match its dm-verity hashes: the image is damaged', {
            where: file,
            next: 'build or fetch it again',
          });
        level = Buffer.concat(Array.from({ length: count }, (_, index) => hash(padded.subarray(index * BLOCK, (index + 1) * BLOCK))));
      }
      return level.toString('hex');
    });
  } catch (cause) {
    throw unreadable(cause, 'the verity partition', file);
  }
}
