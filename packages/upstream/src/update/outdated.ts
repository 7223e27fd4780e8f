import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { lineOf, messageOf, newestFirst, UserError, type LoadedExtension, type VersionSource } from '@flatcar/core/engine';
import type { UpstreamContext } from '../context.ts';
import { newerPackages, type PackageChange } from './newer-packages.ts';
import { keptVersions, listVersions, releaseDate } from '../sources/versions.ts';

/** What upstream offers in one branch that is kept, and what is pinned of it. */
export interface OutdatedRow {
  readonly extension: string;
  /** `version` for the extension's own, `packages` for Debian's packages of a version, else the name of what is coupled to it. */
  readonly of: string;
  /** For packages and the coupled: the version of the extension that it is pinned with. */
  readonly lead?: string;
  /** Pinned; absent where nothing of that branch is. Of packages the timestamp of the archive's index, as of the newest. */
  readonly current?: string;
  /** Newest that upstream offers; absent when only pre-releases are. */
  readonly newest?: string;
  readonly outdated: boolean;
  /** When the newest came out, as an ISO date, where upstream says so. */
  readonly released?: string;
  /** Packages that the archive has in newer versions than those that are pinned. */
  readonly packages?: readonly PackageChange[];
  /** Such as `github k0sproject/k0s`. */
  readonly source: string;
}

/** What could not be asked. */
export interface OutdatedError {
  readonly extension: string;
  readonly of: string;
  readonly source: string;
  /** The newest version that is pinned of it, for `version`. */
  readonly current?: string;
  readonly error: string;
  /** File and line of the definition that names the source. */
  readonly place: string;
  readonly where?: string;
  readonly next?: string;
}

/** The whole answer. */
export interface Outdated {
  readonly rows: readonly OutdatedRow[];
  readonly errors: readonly OutdatedError[];
}

const sourceOf = ({ kind, at }: VersionSource): string => `${kind} ${at}`;

/** How many numbers of a version tell the branch, by policy: `1.36` for minors, `29` for majors, none for `newest`. */
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
  return {
    ...of,
    ...(current === undefined ? {} : { current }),
    ...(newest === undefined ? {} : { newest }),
    outdated: newest !== undefined && newest !== current,
    ...(released === undefined ? {} : { released }),
  };
}

async function ofLead({ extension, pins }: LoadedExtension, context: UpstreamContext): Promise<OutdatedRow[]> {
  const { versions: source, name } = extension;
  const about = { extension: name, of: 'version', source: sourceOf(source) };
  const pinned = newestFirst(Object.keys(pins));
  const parts = branchParts(source.keep);
  const kept = await keptVersions(source, context);
  if (kept.length === 0) return [await row(about, pinned[0], undefined, source, context)];
  return Promise.all(
    kept.map(async (newest) => {
      const current = pinned.find((one) => branchOf(one, parts) === branchOf(newest, parts));
      // Nobody is asked to go back: a channel may lag behind what is pinned already.
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
  await listVersions(source, context); // its error is told once, not per version
  return Promise.all(
    newestFirst(Object.keys(pins)).map(async (lead) => {
      const [newest] = await keptVersions(source, context, lead);
      const current = pins[lead]?.with[of];
      const isBehind = current !== undefined && newest !== undefined && newestFirst([current, newest])[0] === current;
      return row({ extension: extension.name, of, lead, source: sourceOf(source) }, current, isBehind ? current : newest, source, context);
    }),
  );
}

/** One row for each pinned version that has packages. */
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

/** Where a definition names a source: the line of its address, else of its key. */
async function placeOf({ dir }: LoadedExtension, of: string, { at }: VersionSource): Promise<string> {
  const file = join(dir, 'extension.ts');
  const keys =
    of === 'version' ? [/^\s*versions:/] : of === 'packages' ? [/\bcomponents:/] : [new RegExp(`^\\s*(?:'${of}'|${of}):`), /^\s*coupled:/];
  return `${file}:${lineOf(await readFile(file, 'utf8').catch(() => ''), [...(at === '' ? [] : [`'${at}'`]), ...keys])}`;
}

/** Asks upstream of all extensions side by side; what fails for one is told beside the answers for the rest. */
export async function findOutdated(extensions: readonly LoadedExtension[], context: UpstreamContext): Promise<Outdated> {
  const questions = extensions.flatMap((loaded) => {
    const { name, versions, coupled } = loaded.extension;
    return [
      { loaded, extension: name, of: 'version', source: versions, ask: () => ofLead(loaded, context) },
      ...Object.entries(coupled).map(([of, source]) => ({
        loaded,
        extension: name,
        of,
        source,
        ask: () => ofCoupled(loaded, of, source, context),
      })),
      {
        loaded,
        extension: name,
        of: 'packages',
        source: { kind: 'debian' as const, at: 'packages', keep: 'newest' },
        ask: () => ofPackages(loaded, context),
      },
    ];
  });
  const answers = await Promise.allSettled(questions.map(async ({ ask }) => ask()));
  context.signal?.throwIfAborted();
  const rows: OutdatedRow[] = [];
  const errors: OutdatedError[] = [];
  for (const [index, { extension, of, source, loaded }] of questions.entries()) {
    const answer = answers[index];
    if (answer?.status === 'fulfilled') rows.push(...answer.value);
    else {
      const reason: unknown = answer?.reason;
      const { where, next } = reason instanceof UserError ? reason : {};
      errors.push({
        extension,
        of,
        source: sourceOf(source),
        current: of === 'version' ? newestFirst(Object.keys(loaded.pins))[0] : undefined,
        error: messageOf(reason),
        place: await placeOf(loaded, of, source),
        ...(where === undefined ? {} : { where }),
        ...(next === undefined ? {} : { next }),
      });
    }
  }
  return { rows, errors };
}
