import { chmod, lstat, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../util/errors.ts';
import { hashFile } from '../util/files.ts';
import { digestOf } from '../util/digest.ts';
import type { Tree, TreeEntry } from '../model/payload.ts';
import { walk } from '../util/walk.ts';

const byPath = (a: { path: string }, b: { path: string }): number => (a.path < b.path ? -1 : 1);

/** Paths of everything below a folder, relative to it, sorted. */
async function pathsBelow(dir: string): Promise<string[]> {
  return (await walk(dir)).map(({ path }) => path);
}

async function readEntry(dir: string, path: string, component: string): Promise<TreeEntry> {
  const full = join(dir, path);
  const info = await lstat(full);
  const mode = info.mode & 0o7777;
  if (info.isDirectory()) return { path, type: 'dir', mode, size: 0, component };
  if (info.isSymbolicLink()) return { path, type: 'link', mode: 0o777, size: 0, link: await readlink(full), component };
  if (info.isFile()) return { path, type: 'file', mode, size: info.size, sha256: await hashFile(full), component };
  throw new UserError(`'${path}' is not a file, a folder or a link`, { where: full, next: 'remove it: images contain nothing else' });
}

/**
 * Lists the content of a folder, with the digest over it. `owners` has the component of each path; paths without a component belong to the
 * pipeline (empty name).
 */
export async function readTree(dir: string, owners: ReadonlyMap<string, string>): Promise<Tree> {
  const entries: TreeEntry[] = [];
  const paths = await pathsBelow(dir);
  // A few at a time: hashing takes the time, and runs in parallel with reading.
  const width = 8;
  for (let start = 0; start < paths.length; start += width) {
    entries.push(...(await Promise.all(paths.slice(start, start + width).map((path) => readEntry(dir, path, owners.get(path) ?? '')))));
  }
  entries.sort(byPath);
  return { dir, digest: digestOf(entries.map((entry) => ({ ...entry, component: undefined }))), entries };
}

/** Sets modes that do not depend on the umask or the archive: folders 0755, files 0755 or 0644 by their owner's execute bit. */
export async function normalise(dir: string): Promise<void> {
  await chmod(dir, 0o755);
  for (const path of await pathsBelow(dir)) {
    const info = await lstat(join(dir, path));
    if (info.isDirectory()) await chmod(join(dir, path), 0o755);
    else if (info.isFile() && (info.mode & 0o6000) === 0) await chmod(join(dir, path), (info.mode & 0o100) === 0 ? 0o644 : 0o755);
  }
}

/** Paths at which two trees have different content, so that they cannot be merged together. */
export function conflictsBetween(one: readonly TreeEntry[], other: readonly TreeEntry[]): string[] {
  const mine = new Map(one.map((entry) => [entry.path, entry]));
  return other.flatMap((entry) => {
    const there = mine.get(entry.path);
    if (there === undefined || (there.type === 'dir' && entry.type === 'dir')) return [];
    const same = there.type === entry.type && there.sha256 === entry.sha256 && there.link === entry.link && there.mode === entry.mode;
    return same ? [] : [entry.path];
  });
}
