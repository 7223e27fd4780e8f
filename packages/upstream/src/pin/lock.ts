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
import { writeBytes, type Bytes, type PinRequest } from './request.ts';

/** A lock file, and the entry of it that is pinned: the extension's own lock, or one that it shares with others. */
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

/** Opens a lock file for one version's entry; a missing file is an empty lock. */
export async function openLock(dir: string, version: string, shared: boolean): Promise<Lock> {
  const file = join(dir, 'pins.json');
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return { dir, file, text, pins: text === undefined ? {} : readPins(text, file), version, shared, components: [] };
}

/** The extension's own lock, then those that it shares, each with its components. */
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

/** An entry as it is written to the file. */
export type Written = Omit<PinnedVersion, 'coupled'> & Partial<Pick<PinnedVersion, 'coupled'>>;

/** The text of a lock file with a new entry: versions newest first, other versions unchanged. */
export function textOf({ text, file }: Lock, version: string, entry: Written): string {
  const { $schema, ...others } = text === undefined ? {} : parseJson(jsonObject, text, { what: 'pins.json', where: file });
  const all: Record<string, unknown> = { ...others, [version]: entry };
  const sorted = Object.fromEntries(newestFirst(Object.keys(all)).map((key) => [key, all[key]]));
  return `${JSON.stringify({ $schema, ...sorted }, undefined, 2)}\n`;
}

/** The revision of an extension's own entry: 0 at first, and never lower than the pinned one. */
function revisionOf({ revision }: PinRequest, pinned: number | undefined): number {
  if (typeof revision === 'number') return Math.max(revision, pinned ?? 0);
  return pinned === undefined ? 0 : pinned + (revision === true ? 1 : 0);
}

/** The entry of a version. In a shared lock it keeps the bytes and licences of other extensions. */
export function entryOf(
  lock: Lock,
  request: PinRequest,
  versions: Readonly<Record<string, string>>,
  lines: readonly { readonly locator: string; readonly bytes: Bytes }[],
  licenses: Readonly<Record<string, string>>,
  snapshot: string | undefined,
): Written {
  const pinned = lock.pins[lock.version];
  const bytes = Object.fromEntries(lines.map((line) => [line.locator, writeBytes(line.bytes)]));
  // All packages are pinned together, so those that were pinned before do not stay.
  const others = Object.entries(pinned?.bytes ?? {}).filter(([locator]) => !isPackageLocator(locator));
  return {
    revision: lock.shared ? (pinned?.revision ?? 0) : revisionOf(request, pinned?.revision),
    packaging: pinned?.packaging,
    coupled: Object.keys(versions).length === 0 ? undefined : { ...versions },
    licenses: lock.shared ? { ...pinned?.licenses, ...licenses } : licenses,
    snapshot,
    bytes: lock.shared ? { ...Object.fromEntries(others), ...bytes } : bytes,
  };
}
