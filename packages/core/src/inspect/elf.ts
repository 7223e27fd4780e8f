import { compareVersions } from '../model/versions.ts';
import { LONGEST_PATH, withBounded, type BoundedFile } from '../util/bounded.ts';

/** The requirements of an ELF file on the system that runs it. */
export interface Elf {
  /** e_machine (elf.h): 62 is x86-64, 183 is arm64. */
  readonly machine: number;
  readonly type: 'executable' | 'shared' | 'other';
  /** PT_INTERP: the dynamic loader; absent in static programs and in libraries. */
  readonly interpreter?: string;
  /** DT_NEEDED. */
  readonly needed: readonly string[];
  /** DT_RUNPATH, else DT_RPATH, split at colons. */
  readonly runpath: readonly string[];
  readonly soname?: string;
  /** Highest GLIBC_x.y among the needed symbol versions. */
  readonly glibc?: string;
}

/** A section of an ELF file. */
export interface Section {
  readonly offset: number;
  readonly size: number;
}

// elf(5), for 64-bit little-endian files: both architectures are.
const HEADER = 64;
const PROGRAM_HEADER = 56;
const SECTION_HEADER = 64;
const SYMBOL = 24;
const PT = { LOAD: 1, DYNAMIC: 2, INTERP: 3 };
const DT = { NEEDED: 1, STRTAB: 5, STRSZ: 10, SONAME: 14, RPATH: 15, RUNPATH: 29, VERNEED: 0x6ffffffe, VERNEEDNUM: 0x6fffffff };
/** Larger than any real string table; a file with a larger one is damaged. */
const MOST = 64 << 20;
/** Larger than any real dynamic section or list of version needs. */
const MOST_DYNAMIC = 1 << 20;

/** Reads NUL-terminated texts of one table. They may share bytes, but no real file refers to its whole table many times. */
class Strings {
  private readonly table: Buffer;
  private left: number;
  constructor(table: Buffer) {
    this.table = table;
    this.left = 2 * table.length + (1 << 20);
  }

  at(offset: number): string {
    if (offset >= this.table.length) throw new RangeError('outside the string table');
    const end = this.table.indexOf(0, offset);
    const stop = end === -1 ? this.table.length : end;
    this.left -= stop - offset;
    if (this.left < 0) throw new RangeError('texts without end');
    return this.table.toString('latin1', offset, stop);
  }
}

const word = (buffer: Buffer, at: number): number => Number(buffer.readBigUInt64LE(at));

interface Header {
  readonly machine: number;
  readonly type: number;
  readonly programs: readonly { type: number; offset: number; address: number; size: number }[];
  readonly sections: { offset: number; count: number; names: number };
}

async function readHeader(reader: BoundedFile): Promise<Header | undefined> {
  const head = await reader.read(0, HEADER);
  const is64LittleEndian = head.readUInt32BE(0) === 0x7f454c46 && head[4] === 2 && head[5] === 1;
  if (!is64LittleEndian) return undefined;
  const count = head.readUInt16LE(56);
  const table = await reader.read(word(head, 32), count * PROGRAM_HEADER);
  const programs = Array.from({ length: count }, (_, index) => {
    const at = index * PROGRAM_HEADER;
    return { type: table.readUInt32LE(at), offset: word(table, at + 8), address: word(table, at + 16), size: word(table, at + 32) };
  });
  return {
    machine: head.readUInt16LE(18),
    type: head.readUInt16LE(16),
    programs,
    sections: { offset: word(head, 40), count: head.readUInt16LE(60), names: head.readUInt16LE(62) },
  };
}

/**
 * The highest GLIBC_x.y of a chain of needed versions (Elf64_Verneed, Elf64_Vernaux). Both are linked lists: an entry without a successor
 * ends its list whatever the count is, and a list cannot have more entries than fit into it.
 */
function highestGlibc(needs: Buffer, count: number, strings: Strings): string | undefined {
  let highest: string | undefined;
  let entries = Math.floor(needs.length / 16);
  let at = 0;
  for (let need = 0; need < count; need += 1) {
    if ((entries -= 1) < 0) throw new RangeError('version needs without end');
    let aux = at + needs.readUInt32LE(at + 8);
    for (let left = needs.readUInt16LE(at + 2); left > 0; left -= 1) {
      if ((entries -= 1) < 0) throw new RangeError('version needs without end');
      const version = /^GLIBC_(\d+(?:\.\d+)+)$/.exec(strings.at(needs.readUInt32LE(aux + 8)))?.[1];
      if (version !== undefined && (highest === undefined || compareVersions(version, highest) > 0)) highest = version;
      const next = needs.readUInt32LE(aux + 12);
      if (next === 0) break;
      aux += next;
    }
    const next = needs.readUInt32LE(at + 12);
    if (next === 0) break;
    at += next;
  }
  return highest;
}

async function readDynamic(reader: BoundedFile, header: Header): Promise<Pick<Elf, 'needed' | 'runpath' | 'soname' | 'glibc'>> {
  const dynamic = header.programs.find(({ type }) => type === PT.DYNAMIC);
  if (dynamic === undefined) return { needed: [], runpath: [] };
  const offsetOf = (address: number): number => {
    const segment = header.programs.find((one) => one.type === PT.LOAD && address >= one.address && address < one.address + one.size);
    if (segment === undefined) throw new RangeError('an address outside all segments');
    return address - segment.address + segment.offset;
  };
  const table = await reader.read(dynamic.offset, dynamic.size, MOST_DYNAMIC);
  const entries: { tag: number; value: number }[] = [];
  for (let at = 0; at + 16 <= table.length && word(table, at) !== 0; at += 16)
    entries.push({ tag: word(table, at), value: word(table, at + 8) });
  const value = (tag: number): number | undefined => entries.find((entry) => entry.tag === tag)?.value;
  const [address, size] = [value(DT.STRTAB), value(DT.STRSZ)];
  if (address === undefined || size === undefined) return { needed: [], runpath: [] };
  const strings = new Strings(await reader.read(offsetOf(address), size, MOST));
  const needed = entries.filter(({ tag }) => tag === DT.NEEDED).map((entry) => strings.at(entry.value));
  const path = value(DT.RUNPATH) ?? value(DT.RPATH);
  const name = value(DT.SONAME);
  const [needs, count] = [value(DT.VERNEED), value(DT.VERNEEDNUM)];
  let glibc: string | undefined;
  if (needs !== undefined && count !== undefined) {
    const start = offsetOf(needs);
    glibc = highestGlibc(await reader.read(start, Math.min(MOST_DYNAMIC, reader.size - start)), count, strings);
  }
  return {
    needed,
    runpath: path === undefined ? [] : strings.at(path).split(':').filter(Boolean),
    soname: name === undefined ? undefined : strings.at(name),
    glibc,
  };
}

/** Reads the ELF structures of a file; undefined for damaged ones, never an exception. */
async function withElf<T>(path: string, use: (reader: BoundedFile, header: Header) => Promise<T>): Promise<T | undefined> {
  try {
    return await withBounded(path, async (reader) => {
      if (reader.size < HEADER) return undefined;
      const header = await readHeader(reader);
      return header === undefined ? undefined : await use(reader, header);
    });
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/**
 * True if two loaded segments of a file share addresses, so that one hides a part of the other. No linker makes such a file, but patchelf
 * 0.18 does from programs with a fixed address.
 */
export async function hasOverlappingSegments(path: string): Promise<boolean> {
  const found = await withElf(path, async (_, { programs }) => {
    const loaded = programs.filter(({ type }) => type === PT.LOAD).toSorted((a, b) => a.address - b.address);
    return loaded.some(({ address, size }, index) => address + size > (loaded[index + 1]?.address ?? Number.POSITIVE_INFINITY));
  });
  return found ?? false;
}

/** Reads a few kilobytes of a 64-bit ELF file; undefined for any other file and for damaged ones. */
export async function readElf(path: string): Promise<Elf | undefined> {
  return withElf(path, async (reader, header) => {
    const interpreter = header.programs.find(({ type }) => type === PT.INTERP);
    return {
      machine: header.machine,
      type: header.type === 2 ? 'executable' : header.type === 3 ? 'shared' : 'other',
      interpreter:
        interpreter === undefined ? undefined : new Strings(await reader.read(interpreter.offset, interpreter.size, LONGEST_PATH)).at(0),
      ...(await readDynamic(reader, header)),
    };
  });
}

/** The bytes of a section by name, at most `most` of them. */
export async function readSection(path: string, name: string, most = 16 << 20): Promise<Buffer | undefined> {
  return withElf(path, async (reader, { sections }) => {
    const table = await reader.read(sections.offset, sections.count * SECTION_HEADER);
    const at = (index: number): Section & { name: number } => {
      const start = index * SECTION_HEADER;
      return { name: table.readUInt32LE(start), offset: word(table, start + 24), size: word(table, start + 32) };
    };
    const { offset, size } = at(sections.names);
    const names = await reader.read(offset, size, MOST);
    const wanted = Buffer.from(`${name}\0`, 'latin1');
    for (let index = 0; index < sections.count; index += 1) {
      const section = at(index);
      if (names.subarray(section.name, section.name + wanted.length).equals(wanted))
        return reader.read(section.offset, Math.min(section.size, most), MOST);
    }
    return undefined;
  });
}

/** Symbols that a dynamic ELF file imports from its libraries, such as `iconv_open`; empty for any other file, and if symbols were stripped. */
export async function readImports(path: string): Promise<ReadonlySet<string>> {
  const [symbols, strings] = await Promise.all([readSection(path, '.dynsym'), readSection(path, '.dynstr')]);
  const imports = new Set<string>();
  if (symbols === undefined || strings === undefined) return imports;
  const names = new Strings(strings);
  try {
    for (let at = 0; at + SYMBOL <= symbols.length; at += SYMBOL) {
      const name = symbols.readUInt32LE(at);
      if (symbols.readUInt16LE(at + 6) === 0 && name > 0 && name < strings.length) imports.add(names.at(name)); // st_shndx: undefined
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return new Set(); // damaged
  }
  return imports;
}
