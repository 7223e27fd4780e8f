import { StoreAccess } from './access.ts';
import { Blobs } from './blobs.ts';
import { cacheRoot, StoreLayout } from './layout.ts';
import { Results } from './results.ts';
import { Upkeep, type PruneLimits, type StoreStats } from './upkeep.ts';

/** A content-addressed cache folder; safe for any number of processes at once, and against a kill at any moment. */
export interface Store {
  readonly root: string;
  /** Path of a blob, read and checked against its name (once per process); undefined for a missing blob, and for a damaged one, which is removed. */
  blob(sha256: string): Promise<string | undefined>;
  /** Moves a file into the store. Throws a DigestError, and leaves the file, if it does not have the expected digest. */
  keep(file: string, sha256?: string): Promise<{ path: string; sha256: string; size: number }>;
  /** Stable path for a resumable download; its folder exists. Write to it under a lock only. */
  partial(sha256: string): string;
  /**
   * A folder whose content is decided by `key`. `make` fills it at most once, however many processes ask for it;
   * a result that was damaged since (by its list of sizes, times and digests) is made again. Treat it as read-only.
   */
  result(kind: string, key: string, make: (dir: string) => Promise<void>): Promise<{ dir: string; cached: boolean }>;
  /** A folder that is removed afterwards; that of a killed process is removed when the store is next used by one process alone. */
  withTemp<T>(fn: (dir: string) => Promise<T>): Promise<T>;
  /** Runs `fn` while no other holder of that name runs, in this process or another. Not reentrant. */
  lock<T>(name: string, fn: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Removes entries that were not used for some days, then the least recently used ones until the rest fits. Throws a UserError while another process uses the store. */
  prune(limits: PruneLimits): Promise<{ removed: number; bytes: number }>;
  stats(): Promise<StoreStats[]>;
  /** Reads everything again and removes what is damaged; returns the removed paths. */
  verify(): Promise<string[]>;
}

/** Opens the store below a folder, which is made when first needed. */
export function openStore(root: string = cacheRoot()): Store {
  const layout = new StoreLayout(root);
  const access = new StoreAccess(layout);
  const blobs = new Blobs(layout, access);
  const results = new Results(layout, access);
  const upkeep = new Upkeep(layout, access, blobs, results);
  return {
    root,
    blob: (sha256) => blobs.find(sha256),
    keep: (file, sha256) => blobs.keep(file, sha256),
    partial: (sha256) => layout.partial(sha256),
    result: (kind, key, make) => results.findOrMake(kind, key, make),
    withTemp: (fn) => access.withTemp(fn),
    lock: (name, fn, signal) => access.lock(name, fn, signal),
    prune: (limits) => upkeep.prune(limits),
    stats: () => upkeep.stats(),
    verify: () => upkeep.verify(),
  };
}
