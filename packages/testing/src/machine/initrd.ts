import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Release } from '@flatcar/core/engine';

interface Entry {
  readonly path: string;
  /** inode(7), with the type. */
  readonly mode: number;
  readonly content: Buffer;
}

/** An archive as the kernel unpacks it, "newc" (Documentation/driver-api/early-userspace/buffer-format.rst), ended on a multiple of 512 bytes. */
export function cpio(entries: readonly Entry[]): Buffer {
  const parts: Buffer[] = [];
  let size = 0;
  const add = (bytes: Buffer, multiple: number): void => {
    const padded = Buffer.alloc(Math.ceil((size + bytes.length) / multiple) * multiple - size);
    bytes.copy(padded);
    parts.push(padded);
    size += padded.length;
  };
  const hex = (value: number): string => value.toString(16).padStart(8, '0');
  const header = ({ path, mode, content }: Entry, inode: number): Buffer => {
    const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, Buffer.byteLength(path) + 1, 0];
    return Buffer.from(`070701${fields.map(hex).join('')}${path}\0`);
  };
  for (const [index, entry] of entries.entries()) {
    add(header(entry, index + 1), 4);
    add(entry.content, 4);
  }
  add(header({ path: 'TRAILER!!!', mode: 0, content: Buffer.alloc(0) }, 0), 512);
  return Buffer.concat(parts);
}

const FOLDERS = ['etc', 'etc/systemd', 'etc/systemd/system', 'etc/systemd/system/initrd.target.wants', 'usr', 'usr/lib'];

/**
 * The initrd of a stand-in: an archive before the distribution's own initrd. It unpacks the seed as Ignition would, and merges extensions before
 * the switch to the real root if the release merges in the initrd.
 */
export async function initrdFor(mergeStage: Release['mergeStage'], distribution: string): Promise<Buffer> {
  const guest = (name: string): Promise<Buffer> => readFile(join(import.meta.dirname, 'guest/initrd', name));
  const unit = async (name: string): Promise<Entry[]> => [
    { path: `etc/systemd/system/${name}`, mode: 0o100644, content: await guest(name) },
    { path: `etc/systemd/system/initrd.target.wants/${name}`, mode: 0o120777, content: Buffer.from(`../${name}`) },
  ];
  const entries = [
    ...FOLDERS.map((path) => ({ path, mode: 0o40755, content: Buffer.alloc(0) })),
    ...(await unit('seed.service')),
    ...(mergeStage === 'system'
      ? []
      : [...(await unit('merge.service')), { path: 'usr/lib/merge-extensions', mode: 0o100644, content: await guest('merge') }]),
  ];
  return Buffer.concat([cpio(entries), await readFile(distribution)]);
}
