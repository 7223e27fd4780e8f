import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { lineOf, messageOf, newestFirst, UserError, type LoadedExtension, type VersionSource, locationOf } from '@flatcar/core/engine';
import type { UpstreamContext } from '../context.ts';
import { newerPackages, type PackageChange } from './newer-packages.ts';
import { keptVersions, listVersions, releaseDate } from '../sources/versions.ts';

/** The newest version that upstream offers in one tracked branch, and the pinned one. */
export interface OutdatedRow {
  readonly extension: string;
  /** `version` for the extension itself, `packages` for the Debian packages of a version, else the name of a coupled component. */
  readonly of: string;
  /** For packages and coupled components: the version of the extension that they are pinned with. */
  readonly lead?: string;
  /** The pinned version, if there is one in that branch. For packages, the timestamp of the archive's index. */
  readonly current?: string;
  /** The newest version that upstream offers; undefined if it only offers pre-releases. For packages, a timestamp. */
  readonly newest?: string;
  readonly outdated: boolean;
  /** When the newest version was published, as an ISO date, if upstream lists it. */
  readonly released?: string;
  /** Packages that the archive has in newer versions. */
  readonly packages?: readonly PackageChange[];
  /** Such as `github k0sproject/k0s`. */
  readonly source: string;
}

/** A version source that could not be read. */
export interface OutdatedError {
  readonly extension: string;
  readonly of: string;
  readonly source: string;
  /** The newest pinned version, for `version`. */
  readonly current?: string;
  readonly error: string;
  /** File and line of the definition that names the source. */
  readonly place: string;
  readonly where?: string;
  readonly next?: string;
}

export interface Outdated {
  readonly rows: readonly OutdatedRow[];
  readonly errors: readonly OutdatedError[];
}

const sourceOf = (source: VersionSource): string => `${source.kind} ${locationOf(source)}`;

/** How many numbers of a version name its branch, by policy: `1.36` for minors, `29` for majors, none for `newest`. */
export const branchParts = (policy: string): number => (policy.endsWith('minors') ? 2 : policy.endsWith('branches') ? 1 : 0);
/** The branch of a version. */
export const branchOf = (version: string, parts: number): string => version.split('.').slice(0, parts).join('.');

async function row(
  of: { extension: string; of: string; source: string; lead?: string },
  current: string | undefined,
  newest: string | undefined,
  source: VersionSource,
  context: UpstreamContext,
): Promise<OutdatedRow> {
  const released = newest === undefined ? undefined : await releaseDate(source, newest, context);
  return { ...of, current, newest, outdated: newest !== undefined && newest !== current, released };
}

async function ofLead({ extension, pins }: LoadedExtension, context: UpstreamContext): Promise<OutdatedRow[]> {
  const { versions: source, name } = extension;
  const about = { extension: name, of: 'version', source: sourceOf(source) };
  const pinned = newestFirst(Object.keys(pins));
  const parts = branchParts(source.track);
  const kept = await keptVersions(source, context);
  if (kept.length === 0) return [await row(about, pinned[0], undefined, source, context)];
  return Promise.all(
    kept.map(async (newest) => {
      const current = pinned.find((one) => branchOf(one, parts) === branchOf(newest, parts));
      // A channel may lag behind a version that is already pinned.
      const isBehind = current !== undefined && newestFirst([current, newest])[0] === current;
      return row(about, current, isBehind ? current : newest, source, context);
    }),
  );
}

async function ofCoupled(
  { extension, pins }: LoadedExtension,
  of: string,
  source: VersionSource,
  context: UpstreamContext,
): Promise<OutdatedRow[]> {
  await listVersions(source, context); // reports its error once instead of once per version
  return Promise.all(
    newestFirst(Object.keys(pins)).map(async (lead) => {
      const [newest] = await keptVersions(source, context, lead);
      const current = pins[lead]?.coupled[of];
      const isBehind = current !== undefined && newest !== undefined && newestFirst([current, newest])[0] === current;
      return row({ extension: extension.name, of, lead, source: sourceOf(source) }, current, isBehind ? current : newest, source, context);
    }),
  );
}

/** A row for each pinned version that has packages. */
async function ofPackages(loaded: LoadedExtension, context: UpstreamContext): Promise<OutdatedRow[]> {
  const rows = newestFirst(Object.keys(loaded.pins)).map(async (lead): Promise<OutdatedRow[]> => {
    const found = await newerPackages(loaded, lead, context);
    if (found === undefined) return [];
    const { suite, snapshot, now, changes: packages } = found;
    const about = { extension: loaded.extension.name, of: 'packages', lead, source: `debian ${suite}` };
    return [{ ...about, current: snapshot, newest: now, outdated: packages.length > 0, packages }];
  });
  return (await Promise.all(rows)).flat();
}

/** File and line of a source in the definition: the line of its address, else of its key. */
async function placeOf({ dir }: LoadedExtension, of: string, source: VersionSource): Promise<string> {
  const at = locationOf(source);
  const file = join(dir, 'extension.ts');
  const keys =
    of === 'version' ? [/^\s*versions:/] : of === 'packages' ? [/\bcomponents:/] : [new RegExp(`^\\s*(?:'${of}'|${of}):`), /^\s*coupled:/];
  return `${file}:${lineOf(await readFile(file, 'utf8').catch(() => ''), [...(at === '' ? [] : [`'${at}'`]), ...keys])}`;
}

/** Reads the version sources of all extensions at once; a failure of one does not affect the others. */
export async function findOutdated(extensions: readonly LoadedExtension[], context: UpstreamContext): Promise<Outdated> {
  const sources = extensions.flatMap((loaded) => {
    const { name, versions, coupled } = loaded.extension;
    return [
      { loaded, extension: name, of: 'version', source: versions, read: () => ofLead(loaded, context) },
      ...Object.entries(coupled).map(([of, source]) => ({
        loaded,
        extension: name,
        of,
        source,
        read: () => ofCoupled(loaded, of, source, context),
      })),
      {
        loaded,
        extension: name,
        of: 'packages',
        source: { kind: 'debian' as const, package: 'packages', track: 'newest' },
        read: () => ofPackages(loaded, context),
      },
    ];
  });
  const results = await Promise.allSettled(sources.map(async ({ read }) => read()));
  context.signal?.throwIfAborted();
  const rows: OutdatedRow[] = [];
  const errors: OutdatedError[] = [];
  for (const [index, { extension, of, source, loaded }] of sources.entries()) {
    const result = results[index];
    if (result?.status === 'fulfilled') rows.push(...result.value);
    else {
      const reason: unknown = result?.reason;
      const { where, next } = reason instanceof UserError ? reason : {};
      errors.push({
        extension,
        of,
        source: sourceOf(source),
        current: of === 'version' ? newestFirst(Object.keys(loaded.pins))[0] : undefined,
        error: messageOf(reason),
        place: await placeOf(loaded, of, source),
        where,
        next,
      });
    }
  }
  return { rows, errors };
}
