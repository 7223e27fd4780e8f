import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { mkdir, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fsync, hashFile, makeFolder, writeAtomic } from '../util/files.ts';
import { throwIfInterrupted } from '../util/interrupt.ts';
import { mapParallel } from '../util/parallel.ts';
import type { StoreAccess } from './access.ts';
import { touch } from './blobs.ts';
import { hashOnce } from './file-digests.ts';
import { listOf, type StoreLayout } from './layout.ts';

/** One entry of the list that is stored beside a result. */
export interface ListedEntry {
  readonly path: string;
  readonly type: 'file' | 'dir' | 'link' | 'special';
  readonly mode: number;
  /** In bytes; 0 for everything but files. */
  readonly size: number;
  /** Of files, in nanoseconds; a string because JSON's numbers are too small. */
  readonly mtime?: string;
  readonly sha256?: string;
  readonly link?: string;
}

/** Lists a tree in the order of names. Synchronous: 13 000 files take a tenth of a second, and four times that through requiredPaths. */
export function listTree(root: string): ListedEntry[] {
  const found: ListedEntry[] = [];
  const walk = (relative: string): void => {
    for (const name of readdirSync(join(root, relative)).toSorted()) {
      const path = relative === '' ? name : `${relative}/${name}`;
      const full = join(root, path);
      const status = lstatSync(full, { bigint: true });
      const common = { path, mode: Number(status.mode & 0o7777n), size: status.isFile() ? Number(status.size) : 0 };
      if (status.isDirectory()) {
        found.push({ ...common, type: 'dir' });
        walk(path);
      } else if (status.isSymbolicLink()) found.push({ ...common, type: 'link', link: readlinkSync(full) });
      else if (status.isFile()) found.push({ ...common, type: 'file', mtime: String(status.mtimeNs) });
      else found.push({ ...common, type: 'special' });
    }
  };
  walk('');
  return found;
}

/** The list of a result and its current content; undefined if either is missing or damaged. */
async function readLists(dir: string): Promise<{ wanted: readonly ListedEntry[]; have: readonly ListedEntry[] } | undefined> {
  try {
    const listed: unknown = JSON.parse(await readFile(listOf(dir), 'utf8'));
    // No schema: toolchains have tens of thousands of entries, and each field is compared by the caller.
    if (!Array.isArray(listed) || listed.some((one) => typeof one !== 'object' || one === null)) return undefined;
    return { wanted: listed as ListedEntry[], have: listTree(dir) };
  } catch {
    return undefined;
  }
}

/** Folders whose content is decided by a key. */
export class Results {
  private readonly layout: StoreLayout;
  private readonly access: StoreAccess;
  constructor(layout: StoreLayout, access: StoreAccess) {
    this.layout = layout;
    this.access = access;
  }

  /** True if a result matches its list. Reads the content of files with other times, or of all when `thorough`. */
  async isIntact(dir: string, thorough = false): Promise<boolean> {
    const lists = await readLists(dir);
    if (lists === undefined || lists.wanted.length !== lists.have.length) return false;
    const { wanted, have } = lists;
    let retimed = false;
    for (const [index, want] of wanted.entries()) {
      const is = have[index];
      if (is?.path !== want.path || is.type !== want.type || is.mode !== want.mode || is.size !== want.size || is.link !== want.link)
        return false;
      if (want.type !== 'file' || (is.mtime === want.mtime && !thorough)) continue;
      if ((await hashOnce(join(dir, is.path))) !== want.sha256) return false;
      retimed ||= is.mtime !== want.mtime;
    }
    // The same content with other times, such as in a copied cache: recorded, so that not every process reads it again.
    if (retimed) await writeAtomic(listOf(dir), JSON.stringify(have.map((is, index) => ({ ...wanted[index], ...is }))));
    return true;
  }

  /** See Store.result. */
  async findOrMake(kind: string, key: string, make: (dir: string) => Promise<void>): Promise<{ dir: string; cached: boolean }> {
    throwIfInterrupted();
    await this.access.use();
    const dir = this.layout.result(kind, key);
    if (await this.isPresent(dir)) return { dir, cached: true };
    return this.access.lock(`${kind}-${key}`, async () => {
      if (await this.isPresent(dir)) return { dir, cached: true };
      await this.access.discard(dir);
      await this.make(dir, make);
      return { dir, cached: false };
    });
  }

  private async isPresent(dir: string): Promise<boolean> {
    if (!(await this.isIntact(dir))) return false;
    await touch(listOf(dir));
    return true;
  }

  /** Fills a temporary folder, and moves it to its place when it is complete. */
  private async make(dir: string, make: (dir: string) => Promise<void>): Promise<void> {
    await this.access.withTemp(async (made) => {
      const fresh = join(made, 'result');
      await mkdir(fresh);
      await make(fresh);
      const listed = await mapParallel(listTree(fresh), async (one): Promise<ListedEntry> => {
        const path = join(fresh, one.path);
        if (one.type === 'file' || one.type === 'dir') await fsync(path);
        return one.type === 'file' ? { ...one, sha256: await hashFile(path) } : one;
      });
      await fsync(fresh);
      await makeFolder(dirname(dir));
      await rename(fresh, dir);
      // The list comes last, with an fsync of its folder: a result without a list does not exist.
      await writeAtomic(listOf(dir), JSON.stringify(listed));
    });
  }
}
