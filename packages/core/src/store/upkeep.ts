import { lstat, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { UserError } from '../util/errors.ts';
import { throwIfInterrupted } from '../util/interrupt.ts';
import { heldLocks } from '../util/locks.ts';
import type { StoreAccess } from './access.ts';
import type { Blobs } from './blobs.ts';
import { forgetDigests } from './file-digests.ts';
import { isSha256, listOf, missing, namesIn, type StoreLayout } from './layout.ts';
import { listTree, type Results } from './results.ts';

/** Something that can be removed by itself. */
interface Entry {
  readonly kind: string;
  readonly path: string;
  readonly bytes: number;
  /** Last use, milliseconds since 1970. */
  readonly used: number;
}

/** What the store holds of one kind. */
export interface StoreStats {
  /** `blobs`, `partial`, `temp`, a kind of result, or another folder below the root. */
  readonly kind: string;
  readonly entries: number;
  readonly bytes: number;
}

/** What prune keeps: everything by default. */
export interface PruneLimits {
  readonly maxBytes?: number;
  readonly olderThanDays?: number;
}

const DAY_MS = 86_400_000;

/** Size and last use of an entry, by the times of the marker file that each use touches. */
async function measure(kind: string, path: string, marker?: string): Promise<Entry> {
  const own = await lstat(path);
  const inside = own.isDirectory() ? listTree(path) : [];
  const bytes = inside.reduce((sum, { size }) => sum + size, own.isFile() ? own.size : 0);
  if (marker === undefined) {
    // A folder that other programs use (Go's caches) is as old as the newest file in it.
    const newest = inside.reduce((latest, { mtime }) => Math.max(latest, Number(mtime ?? 0) / 1e6), own.mtimeMs);
    return { kind, path, bytes, used: newest };
  }
  const times = await stat(marker).catch(missing);
  return { kind, path, bytes, used: times === undefined ? 0 : Math.max(times.atimeMs, times.mtimeMs) };
}

/** What is done with a store as a whole. */
export class Upkeep {
  private readonly layout: StoreLayout;
  private readonly access: StoreAccess;
  private readonly blobs: Blobs;
  private readonly results: Results;
  constructor(layout: StoreLayout, access: StoreAccess, blobs: Blobs, results: Results) {
    this.layout = layout;
    this.access = access;
    this.blobs = blobs;
    this.results = results;
  }

  /** All that prune, stats and verify work on. */
  private async entries(): Promise<Entry[]> {
    const { root } = this.layout;
    const found: Promise<Entry | undefined>[] = [];
    // Undefined for an entry that another process has just removed.
    const add = (kind: string, path: string, marker?: string): void => void found.push(measure(kind, path, marker).catch(missing));
    for (const kind of await namesIn(root)) {
      if (kind === 'locks') continue;
      for (const name of await namesIn(join(root, kind))) {
        throwIfInterrupted();
        const path = join(root, kind, name);
        if (kind === 'partial') add(kind, path, path);
        else if (kind === 'blobs') for (const blob of await namesIn(path)) add(kind, join(path, blob), join(path, blob));
        else if (kind === 'results')
          for (const result of await this.layout.resultsOf(name)) add(name, join(path, result), listOf(join(path, result)));
        else add(kind, path);
      }
    }
    return (await Promise.all(found)).filter((one) => one !== undefined);
  }

  /** See Store.stats. */
  async stats(): Promise<StoreStats[]> {
    await this.access.use();
    const kinds = Map.groupBy(await this.entries(), ({ kind }) => kind);
    return [...kinds]
      .map(([kind, found]) => ({ kind, entries: found.length, bytes: found.reduce((sum, { bytes }) => sum + bytes, 0) }))
      .toSorted((a, b) => (a.kind < b.kind ? -1 : 1));
  }

  /** See Store.prune. */
  async prune(limits: PruneLimits): Promise<{ removed: number; bytes: number }> {
    const { maxBytes = Infinity, olderThanDays = Infinity } = limits;
    // NaN or a negative number would remove everything.
    for (const [name, value] of Object.entries({ maxBytes, olderThanDays }))
      if (!(value >= 0))
        throw new UserError(`${name} is ${value}, which is not a limit`, {
          where: this.layout.root,
          next: 'pass a number that is not negative',
        });
    return this.access.alone(async () => {
      const pruned = await this.removeEntries(maxBytes, Date.now() - olderThanDays * DAY_MS);
      await this.access.removeLeftovers();
      await this.removeLocks();
      return pruned;
    });
  }

  /** Removes entries that were last used before `oldest`, then the least recently used ones until the rest fits. */
  private async removeEntries(maxBytes: number, oldest: number): Promise<{ removed: number; bytes: number }> {
    const all = (await this.entries()).filter(({ kind }) => kind !== 'temp').toSorted((a, b) => a.used - b.used);
    let total = all.reduce((sum, { bytes }) => sum + bytes, 0);
    let removed = 0;
    let bytes = 0;
    for (const entry of all) {
      if (entry.used >= oldest && total <= maxBytes) continue;
      throwIfInterrupted();
      await this.access.discard(entry.path);
      total -= entry.bytes;
      bytes += entry.bytes;
      removed += 1;
    }
    return { removed, bytes };
  }

  private async removeLocks(): Promise<void> {
    const held = heldLocks();
    for (const name of await namesIn(this.layout.locks)) {
      const file = join(this.layout.locks, name);
      if (!held.has(file)) await rm(file, { force: true });
    }
  }

  /** See Store.verify. */
  async verify(): Promise<string[]> {
    await this.access.use();
    forgetDigests();
    const damaged: string[] = [];
    for (const { kind, path } of await this.entries()) {
      throwIfInterrupted();
      const name = basename(path);
      const isBlob = path.startsWith(this.layout.blobs);
      if (!isBlob && !path.startsWith(this.layout.results)) continue;
      const isGood = async (): Promise<boolean> =>
        isBlob ? isSha256(name) && (await this.blobs.isWhole(name)) === true : this.results.isIntact(path, true);
      if (await isGood()) continue;
      await this.access.lock(isBlob ? `blob-${name}` : `${kind}-${name}`, async () => {
        if (await isGood()) return;
        await this.access.discard(path);
        damaged.push(path);
      });
    }
    return damaged;
  }
}
