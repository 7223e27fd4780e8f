// Archives made byte by byte, as no tool would make the hostile ones: POSIX.1 ustar and pax, APPNOTE.TXT 4.3, ar(5) and deb(5).
import { crc32, deflateRawSync } from 'node:zlib';

/** One entry of a tar, or of what precedes one. */
export interface TarPart {
  readonly path: string;
  readonly body?: string | Buffer;
  /** The type flag: `0` file, `1` hard link, `2` symbolic link, `3` and `4` devices, `5` folder, `6` FIFO, `x` and `g` pax, `L` and `K` GNU. */
  readonly type?: string;
  readonly link?: string;
  readonly mode?: number;
  /** What the header gives, where it lies. */
  readonly size?: number;
  /** The checksum field, where it lies. */
  readonly sum?: string;
  readonly prefix?: string;
}

const octal = (value: number, width: number): string => value.toString(8).padStart(width - 1, '0');

/** A header and its content, padded to blocks. */
export function tarPart({ path, body = '', type = '0', link = '', mode = 0o755, size, sum, prefix = '' }: TarPart): Buffer {
  const content = Buffer.from(body);
  const header = Buffer.alloc(512);
  header.write(path, 0, 100);
  header.write(octal(mode, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  const given = size ?? content.length;
  if (given >= 2 ** 33) {
    header.writeUInt8(0x80, 124);
    header.writeBigUInt64BE(BigInt(given), 128);
  } else header.write(octal(given, 12), 124);
  header.write(octal(0, 12), 136);
  header.write(type, 156, 1);
  header.write(link, 157, 100);
  header.write('ustar\x0000', 257, 'latin1');
  header.write(prefix, 345, 155);
  header.fill(0x20, 148, 156);
  header.write(
    sum ??
      `${octal(
        header.reduce((total, byte) => total + byte, 0),
        7,
      )}\0 `,
    148,
    8,
    'latin1',
  );
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

/** The two blocks of zeros that end a tar. */
export const TAR_END = Buffer.alloc(1024);

export const tarOf = (parts: readonly TarPart[]): Buffer => Buffer.concat([...parts.map(tarPart), TAR_END]);

/** A pax header for the entry that follows (`x`), or for all (`g`). */
export function pax(records: Readonly<Record<string, string>>, type: 'x' | 'g' = 'x'): TarPart {
  const body = Object.entries(records).map(([key, value]) => {
    const rest = Buffer.byteLength(` ${key}=${value}\n`);
    let length = rest + 1;
    while (String(length).length + rest !== length) length = String(length).length + rest;
    return `${length} ${key}=${value}\n`;
  });
  return { path: 'PaxHeaders/x', type, body: body.join('') };
}

/** One entry of a zip; what lies is given by itself. */
export interface ZipPart {
  readonly path: string;
  readonly body?: string | Buffer;
  readonly mode?: number;
  readonly deflated?: boolean;
  /** Sizes and CRC-32 behind the data instead of before it. */
  readonly descriptor?: boolean;
  readonly centralCrc?: number;
  readonly localCrc?: number;
  readonly descriptorCrc?: number;
  readonly localPath?: string;
  /** Size that both headers give. */
  readonly size?: number;
  /** Bytes behind the deflate stream that are counted as its own. */
  readonly slack?: string;
  /** Bytes before the local header. */
  readonly before?: string;
}

/** A zip with its entries in the order given. */
export function zipOf(parts: readonly ZipPart[], { between = '', after = '' }: { between?: string; after?: string } = {}): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const part of parts) {
    const plain = Buffer.from(part.body ?? '');
    const data = Buffer.concat([part.deflated === true ? deflateRawSync(plain) : plain, Buffer.from(part.slack ?? '')]);
    const [name, localName, before] = [part.path, part.localPath ?? part.path, part.before ?? ''].map((text) => Buffer.from(text));
    if (name === undefined || localName === undefined || before === undefined) continue;
    const crc = crc32(plain);
    const size = part.size ?? plain.length;
    const flags = part.descriptor === true ? 8 : 0;
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(20, 4);
    local.writeUInt16LE(flags, 6);
    local.writeUInt16LE(part.deflated === true ? 8 : 0, 8);
    if (part.descriptor !== true) {
      local.writeUInt32LE(part.localCrc ?? part.centralCrc ?? crc, 14);
      local.writeUInt32LE(data.length, 18);
      local.writeUInt32LE(size, 22);
    }
    local.writeUInt16LE(localName.length, 26);
    const descriptor = Buffer.alloc(part.descriptor === true ? 16 : 0);
    if (part.descriptor === true) {
      descriptor.writeUInt32LE(0x08074b50, 0);
      descriptor.writeUInt32LE(part.descriptorCrc ?? crc, 4);
      descriptor.writeUInt32LE(data.length, 8);
      descriptor.writeUInt32LE(size, 12);
    }
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE((3 << 8) | 20, 4);
    entry.writeUInt16LE(20, 6);
    entry.writeUInt16LE(flags, 8);
    entry.writeUInt16LE(part.deflated === true ? 8 : 0, 10);
    entry.writeUInt32LE(part.centralCrc ?? crc, 16);
    entry.writeUInt32LE(data.length, 20);
    entry.writeUInt32LE(size, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(((part.mode ?? 0o100755) << 16) >>> 0, 38);
    entry.writeUInt32LE(offset + before.length, 42);
    locals.push(before, local, localName, data, descriptor);
    central.push(entry, name);
    offset += before.length + 30 + localName.length + data.length + descriptor.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(parts.length, 8);
  end.writeUInt16LE(parts.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset + between.length, 16);
  return Buffer.concat([...locals, Buffer.from(between), directory, end, Buffer.from(after)]);
}

/** An ar archive with these members. */
export function arOf(members: readonly (readonly [name: string, content: Buffer])[]): Buffer {
  return Buffer.concat([
    Buffer.from('!<arch>\n'),
    ...members.flatMap(([name, content]) => [
      Buffer.from(
        `${name.padEnd(16)}${'0'.padEnd(12)}${'0'.padEnd(6)}${'0'.padEnd(6)}${'100644'.padEnd(8)}${String(content.length).padEnd(10)}\`\n`,
      ),
      content,
      Buffer.alloc(content.length % 2, '\n'),
    ]),
  ]);
}

/** A Debian package of two tars, named as its compressions are. */
export function debOf(
  data: Buffer,
  { control = tarOf([{ path: './control', body: 'Package: x\nVersion: 1\n' }]), suffix = '', more = [] as [string, Buffer][] } = {},
): Buffer {
  return arOf([['debian-binary', Buffer.from('2.0\n')], ['control.tar', control], [`data.tar${suffix}`, data], ...more]);
}
