import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  isPackageLocator,
  jsonObject,
  newestFirst,
  parseJson,
  readPins,
  type Component,
  type PinnedVersion,
  type Pins,
} from '@flatcar/core/engine';
import type { Bytes, PinRequest } from './request.ts';

/** One lock file and the entry of it that is made: the extension's own, or one that it shares with others. */
export interface Lock {
  readonly dir: string;
  readonly file: string;
  readonly text: string | undefined;
  readonly pins: Pins;
  /** Key of the entry. */
  readonly version: string;
  readonly shared: boolean;
  readonly components: Component[];
}

/** Opens a lock file for one version's entry; a file that is not there yet is an empty one. */
export async function openLock(dir: string, version: string, shared: boolean): Promise<Lock> {
  const file = join(dir, 'pins.json');
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return { dir, file, text, pins: text === undefined ? {} : readPins(text, file), version, shared, components: [] };
}

/** The extension's own lock first, then those that it shares. */
export async function locksOf(request: PinRequest, own: Lock, versions: Readonly<Record<string, string>>): Promise<Lock[]> {
  const locks = [own];
  for (const component of request.extension.components({ ...versions, version: request.version })) {
    if (component.origins.every(({ kind }) => kind === 'files')) continue;
    const { lock: dir, version } = component;
    let lock = dir === undefined ? own : locks.find((one) => one.shared && one.dir === dir && one.version === version);
    if (lock === undefined && dir !== undefined) locks.push((lock = await openLock(dir, version, true)));
    lock?.components.push(component);
  }
  return locks;
}

/** An entry as it is written. */
export type Written = Omit<PinnedVersion, 'with'> & Partial<Pick<PinnedVersion, 'with'>>;

/** The text of a lock file: versions newest first, what is below in the order of the definition; other versions as they were written. */
export function textOf({ text, file }: Lock, version: string, entry: Written): string {
  const { $schema, ...others } = text === undefined ? {} : parseJson(jsonObject, text, { what: 'pins.json', where: file });
  const all: Record<string, unknown> = { ...others, [version]: entry };
  const sorted = Object.fromEntries(newestFirst(Object.keys(all)).map((key) => [key, all[key]]));
  return `${JSON.stringify({ ...($schema === undefined ? {} : { $schema }), ...sorted }, undefined, 2)}\n`;
}

/** The revision of an extension's own entry: 0 at first, and never lower than the one that is pinned. */
function revisionOf({ revision }: PinRequest, pinned: number | undefined): number {
  if (typeof revision === 'number') return Math.max(revision, pinned ?? 0);
  return pinned === undefined ? 0 : pinned + (revision === true ? 1 : 0);
}

/** What is written for a version, out of all that was found. */
export function entryOf(
  lock: Lock,
  request: PinRequest,
  versions: Readonly<Record<string, string>>,
  lines: readonly { locator: string; bytes: Bytes }[],
  found: Readonly<Record<string, string>>,
  snapshot: string | undefined,
): Written {
  const pinned = lock.pins[lock.version];
  // Packages are pinned anew all together.
  const before = pinned === undefined ? undefined : { ...pinned, bytes: Object.fromEntries(Object.entries(pinned.bytes).filter(([locator]) => !isPackageLocator(locator))) }; // prettier-ignore
  const bytes = Object.fromEntries(lines.map((line) => [line.locator, line.bytes]));
  // Of a lock that is shared, the rest may be of other extensions.
  const others = <T>(map: Readonly<Record<string, T>> | undefined, own: Readonly<Record<string, T>>): Record<string, T> => ({ ...(lock.shared ? map : {}), ...own }); // prettier-ignore
  return {
    revision: lock.shared ? (before?.revision ?? 0) : revisionOf(request, before?.revision),
    packaging: before?.packaging,
    ...(Object.keys(versions).length === 0 ? {} : { with: { ...versions } }),
    licenses: others(before?.licenses, found),
    ...(snapshot === undefined ? {} : { snapshot }),
    bytes: others(before?.bytes, bytes),
  };
}
