import { chmodSync, closeSync, fchmodSync, linkSync, lstatSync, mkdirSync, openSync, symlinkSync, unlinkSync, writeSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { UserError } from '../util/errors.ts';

/** Limits for the content of an archive. */
export interface UnpackLimits {
  /** Plain bytes, including headers and padding. */
  readonly bytes: number;
  /** Files, links and folders, including folders that are only named in other paths. */
  readonly entries: number;
  /** How long unpacking may take. */
  readonly seconds: number;
}

export const DEFAULT_LIMITS: UnpackLimits = { bytes: 16 * 2 ** 30, entries: 200_000, seconds: 1800 };

/** Nested folders, and bytes of a path and of one name in it (the kernel's limits of 4096 and 255 include our folder). */
const DEPTH = 64;
const PATH_BYTES = 1024;
const NAME_BYTES = 255;

/** How many links the kernel follows on one path (path_resolution(7)). */
const MAX_HOPS = 40;

type Kind = 'dir' | 'file' | 'link';

/** How an archive is treated. */
export interface ExtractionOptions {
  readonly limits?: Partial<UnpackLimits> | undefined;
  /**
   * True for packages of a distribution: their links refer to a whole system (no code follows them), several are unpacked into one
   * folder, in which a later file replaces an earlier one, and modes are kept. Setuid and setgid bits of files are dropped, not refused.
   */
  readonly distribution?: boolean | undefined;
}

// oxlint-disable-next-line no-control-regex -- the expression matches control characters
const CONTROL = /[\u0000-\u001f\u007f]/;

const isErrno = (error: unknown, code: string): boolean => (error as NodeJS.ErrnoException).code === code;

/** Checks the entries of an untrusted archive and writes them into a folder, one after the other, so that nothing is running after a refusal. */
export class Extraction {
  private readonly archive: string;
  private readonly dest: string;
  private readonly distribution: boolean;
  readonly limits: UnpackLimits;
  private readonly kinds = new Map<string, Kind>();
  private readonly links = new Map<string, string>();
  private readonly resolved = new Map<string, string>();
  private readonly made = new Set<string>(['.']);
  private readonly modes = new Map<string, number>();
  private readonly deadline: number;
  private bytes = 0;
  private last = '';

  constructor(archive: string, dest: string, options: ExtractionOptions = {}) {
    this.archive = archive;
    this.dest = dest;
    this.distribution = options.distribution === true;
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.deadline = performance.now() + this.limits.seconds * 1000;
  }

  /** Throws a UserError with the reason for refusing the archive. */
  refuse(path: string, why: string): never {
    throw new UserError(`the archive is refused: '${path.slice(0, 200)}' ${why}`, {
      where: this.archive,
      next: 'do not use this archive; report it to its upstream',
    });
  }

  /** Counts plain bytes before they are used, and checks the time limit. */
  count(bytes: number): void {
    this.bytes += bytes;
    if (this.bytes > this.limits.bytes) this.refuse(this.last, `makes the archive larger than ${this.limits.bytes} bytes`);
    if (performance.now() > this.deadline) this.refuse(this.last, `is reached after more than ${this.limits.seconds} seconds`);
  }

  /** Refuses a size over the limit before its bytes are read. */
  expect(raw: string, size: number): void {
    if (this.bytes + size > this.limits.bytes) this.refuse(raw, `makes the archive larger than ${this.limits.bytes} bytes`);
  }

  /** The entry's path inside dest, without `./`; undefined for the root itself. */
  private clean(path: string): string | undefined {
    if (CONTROL.test(path)) this.refuse(path, 'has control characters in its name');
    if (!this.distribution && path.includes('\\')) this.refuse(path, 'has backslashes in its name');
    if (path.startsWith('/')) this.refuse(path, 'is an absolute path');
    if (Buffer.byteLength(path) > PATH_BYTES) this.refuse(path, `is a path of more than ${PATH_BYTES} bytes`);
    const names = path.split('/').filter((name) => name !== '' && name !== '.');
    if (names.includes('..')) this.refuse(path, "leads out of the archive by '..'");
    if (names.length > DEPTH) this.refuse(path, `is more than ${DEPTH} folders deep`);
    if (names.some((name) => Buffer.byteLength(name) > NAME_BYTES)) this.refuse(path, `has a name of more than ${NAME_BYTES} bytes`);
    return names.length === 0 ? undefined : names.join('/');
  }

  private enter(raw: string, path: string, kind: Kind): void {
    this.kinds.set(path, kind);
    if (this.kinds.size > this.limits.entries) this.refuse(raw, `is one entry too many: ${this.limits.entries} are allowed`);
  }

  /** Checks a path against all earlier entries, and enters it with the folders that it implies. Undefined for the root itself. */
  private claim(raw: string, kind: Kind): string | undefined {
    this.last = raw;
    const path = this.clean(raw);
    if (path === undefined) {
      if (kind !== 'dir') this.refuse(raw, 'has no name');
      return undefined;
    }
    for (let parent = dirname(path); parent !== '.'; parent = dirname(parent)) {
      const there = this.kinds.get(parent);
      if (there === 'dir') break; // then those above it are folders too
      if (there !== undefined) this.refuse(raw, `lies below '${parent}', which is not a folder`);
      this.enter(raw, parent, 'dir');
    }
    const before = this.kinds.get(path);
    if (before !== undefined && !(before === 'dir' && kind === 'dir')) this.refuse(raw, 'exists twice');
    this.enter(raw, path, kind);
    return path;
  }

  /** Makes a folder and those above it; an existing entry of an earlier package must be a folder, too. */
  private folder(path: string): void {
    if (this.made.has(path)) return;
    this.folder(dirname(path));
    const full = join(this.dest, path);
    try {
      mkdirSync(full, 0o755);
      chmodSync(full, 0o755); // under any umask
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
      if (!lstatSync(full).isDirectory()) this.refuse(path, 'is a folder here, but not in another package');
    }
    this.made.add(path);
  }

  /** Makes a new file or link; for packages, replaces a file or link of an earlier package. */
  private create(path: string, make: (full: string) => void): void {
    this.folder(dirname(path));
    const full = join(this.dest, path);
    try {
      make(full);
    } catch (error) {
      if (!this.distribution || !isErrno(error, 'EEXIST')) throw error;
      if (lstatSync(full).isDirectory()) this.refuse(path, 'is a folder in another package, but not in this one');
      unlinkSync(full);
      make(full);
    }
  }

  /** Makes a folder. */
  dir(raw: string, mode: number): void {
    const path = this.claim(raw, 'dir');
    if (path === undefined) return;
    this.folder(path);
    if (this.distribution) this.modes.set(path, mode);
  }

  /** Writes a file of exactly `size` bytes, or of any size if no header specifies one. */
  async file(raw: string, size: number | undefined, mode: number, content: AsyncIterable<Buffer>): Promise<void> {
    if (size !== undefined) this.expect(raw, size);
    if ((mode & 0o6000) !== 0 && !this.distribution) this.refuse(raw, 'is setuid or setgid');
    const path = this.claim(raw, 'file');
    if (path === undefined) return;
    const kept = this.distribution ? (mode & 0o777) | 0o400 : mode & 0o111 ? 0o755 : 0o644;
    let fd = -1;
    this.create(path, (full) => (fd = openSync(full, 'wx', 0o600)));
    let written = 0;
    try {
      for await (const chunk of content) {
        // Synchronous: another thread takes several times as long for small files, and large ones arrive in small portions.
        for (let at = 0; at < chunk.length;) at += writeSync(fd, chunk, at);
        written += chunk.length;
      }
      fchmodSync(fd, kept);
    } catch (error) {
      const failed = error as NodeJS.ErrnoException;
      if (failed.syscall !== undefined) failed.path ??= join(this.dest, path); // the error of a full disk has no path
      throw error;
    } finally {
      closeSync(fd);
    }
    if (size !== undefined && written !== size) this.refuse(raw, `contains ${written} bytes, and its header gives ${size}`);
  }

  /** Makes a symbolic link; finish() checks whether it stays inside. */
  symlink(raw: string, target: string): void {
    if (target === '' || CONTROL.test(target) || Buffer.byteLength(target) > PATH_BYTES)
      this.refuse(raw, 'is a link whose target is empty, too long, or has control characters');
    const leaves =
      target.startsWith('/') ||
      normalize(join(dirname(raw), target))
        .split('/')
        .includes('..');
    if (leaves && !this.distribution) this.refuse(raw, `links out of the archive, to '${target}'`);
    const path = this.claim(raw, 'link');
    if (path === undefined) return;
    this.links.set(path, target);
    this.create(path, (full) => symlinkSync(target, full));
  }

  /** Makes a hard link to an earlier file. */
  hardlink(raw: string, target: string): void {
    const other = this.clean(target);
    if (other === undefined || this.kinds.get(other) !== 'file')
      this.refuse(raw, `is a hard link to '${target}', which is not a file of the archive before it`);
    const path = this.claim(raw, 'file');
    if (path !== undefined) this.create(path, (full) => linkSync(join(this.dest, other), full));
  }

  /**
   * The target of a link after following every link of the archive. Refuses targets outside, targets that depend on the
   * resolver (`..` after a link), and circles. Each link is resolved once.
   */
  private resolveLink(path: string, hops: number): string {
    const known = this.resolved.get(path);
    if (known !== undefined) return known;
    if (hops > MAX_HOPS) this.refuse(path, 'is a link that leads in a circle, or through too many others');
    let at = path.split('/').slice(0, -1);
    let wasLink = false;
    for (const name of (this.links.get(path) ?? '').split('/')) {
      if (name === '' || name === '.') continue;
      if (name !== '..') at.push(name);
      else if (wasLink) this.refuse(path, "is a link with '..' after another link");
      else if (at.pop() === undefined) this.refuse(path, 'links out of the archive');
      if (at.length > 2 * DEPTH) this.refuse(path, `leads more than ${2 * DEPTH} folders deep`);
      const there = at.join('/');
      if (!this.links.has(there)) continue;
      wasLink = true;
      const target = this.resolveLink(there, hops + 1);
      at = target === '' ? [] : target.split('/');
    }
    const target = at.join('/');
    this.resolved.set(path, target);
    return target;
  }

  /** Checks links and sets modes once all entries exist. */
  finish(): void {
    if (!this.distribution) for (const path of this.links.keys()) this.resolveLink(path, 0);
    // Its owner must be able to remove a folder again.
    for (const [path, mode] of this.modes) chmodSync(join(this.dest, path), (mode & 0o7777) | 0o700);
  }
}
