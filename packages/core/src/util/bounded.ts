import { open, type FileHandle } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { eachChunk } from './chunks.ts';
import { UserError } from './errors.ts';
import { throwIfInterrupted } from './interrupt.ts';

/** Most files, folders and links that a reader accepts in an image; the largest extension has a tenth of that. */
export const MOST_ENTRIES = 1 << 18;
/** Most characters of all their paths together. */
const MOST_PATHS = 64 << 20;
/** PATH_MAX of Linux: neither a path nor the target of a link is longer. */
export const LONGEST_PATH = 4096;
/** Entries after which a reader yields to timers and signals. */
const TURN = 4096;

/**
 * A file with untrusted content. It is never read outside its bounds, and never more than `budget` bytes in total (unlimited by default):
 * that stops structures that overlap or refer to each other.
 */
export class BoundedFile {
  readonly handle: FileHandle;
  /** In bytes. */
  readonly size: number;
  private left: number;
  constructor(handle: FileHandle, size: number, budget = Number.POSITIVE_INFINITY) {
    this.handle = handle;
    this.size = size;
    this.left = budget;
  }

  /** Reads exactly `length` bytes. Throws a RangeError for a range outside the file, larger than `most`, or over the budget. */
  async read(offset: number, length: number, most = 64 << 20): Promise<Buffer> {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.size)) throw new RangeError('it is cut off');
    if (length > most) throw new RangeError(`a part of ${length} bytes where at most ${most} are expected`);
    this.spend(length);
    const buffer = Buffer.alloc(length);
    for (let at = 0; at < length;) {
      const { bytesRead } = await this.handle.read(buffer, at, length - at, offset + at);
      if (bytesRead === 0) throw new RangeError('it is cut off');
      at += bytesRead;
    }
    return buffer;
  }

  /** Calls `use` with each chunk of exactly `length` bytes, as eachChunk does. Throws a RangeError for a range outside the file, or over the budget. */
  async each(offset: number, length: number, use: (chunk: Buffer) => void): Promise<void> {
    if (!(offset >= 0 && length >= 0 && offset + length <= this.size)) throw new RangeError('it is cut off');
    this.spend(length);
    if ((await eachChunk(this.handle, { start: offset, end: offset + length }, use)) < length) throw new RangeError('it is cut off');
  }

  private spend(length: number): void {
    this.left -= length;
    if (this.left < 0) throw new RangeError('its parts overlap');
  }
}

/** Opens a file for reading untrusted content; `budgetOf` computes the budget in bytes from the file's size. */
export async function withBounded<T>(
  path: string,
  use: (file: BoundedFile) => Promise<T>,
  budgetOf?: (size: number) => number,
): Promise<T> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    return await use(new BoundedFile(handle, size, budgetOf?.(size)));
  } finally {
    await handle.close();
  }
}

/** A UserError for content that cannot be read; returns errors of the system and UserErrors unchanged. */
export function unreadable(cause: unknown, what: string, where: string): unknown {
  if (cause instanceof UserError || !(cause instanceof Error)) return cause;
  if ((cause as NodeJS.ErrnoException).syscall !== undefined || cause.name === 'AbortError') return cause;
  return new UserError(`${what} cannot be read: ${cause.message}`, { where, next: 'build or fetch it again', cause });
}

/** Returns a name in a folder of an image. Throws a RangeError for a path, and for a name that no file can have. */
export function checkName(name: string): string {
  if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name) || name.length > 255)
    throw new RangeError(`the name ${JSON.stringify(name.slice(0, 80))} is not valid`);
  return name;
}

/** Counts the entries that a reader finds: an image cannot list more than fit into it, and cannot delay a signal. */
export class EntryCount {
  private entries = 0;
  private characters = 0;
  private readonly most: number;
  constructor(most = MOST_ENTRIES) {
    this.most = Math.min(most, MOST_ENTRIES);
  }

  /** Counts one entry. Throws a RangeError for one too many, and the reason of an interruption. */
  async add(path: string): Promise<void> {
    this.entries += 1;
    this.characters += path.length;
    if (this.entries > this.most) throw new RangeError(`more than ${this.most} entries`);
    if (path.length > LONGEST_PATH) throw new RangeError('folders without end');
    if (this.characters > MOST_PATHS) throw new RangeError('paths without end');
    if (this.entries % TURN !== 0) return;
    await turn();
    throwIfInterrupted();
  }
}
