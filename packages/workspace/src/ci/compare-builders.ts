import { link, copyFile, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { COMPILING_ORIGINS, makeFolder, UserError, writeAtomic, type Payload, type TreeEntry } from '@flatcar/core/engine';
import { checkedPayloads } from './payload-claims.ts';
import { secondId, type Job } from './job.ts';
import type { BuiltPayload } from './payloads.ts';

/** The most files that an error lists. */
const SHOWN = 20;

const textOf = ({ type, mode, size, sha256, link: target }: TreeEntry): string =>
  [
    type,
    mode.toString(8),
    ...(type === 'file' ? [`${size} bytes`, `sha256 ${sha256 ?? 'unknown'}`] : []),
    ...(target === undefined ? [] : [`-> ${target}`]),
  ].join(' ');

/** The differences of two trees, a line for each path. */
function treeDifferences(first: Payload, second: Payload): string[] {
  const [one, other] = [first, second].map(({ tree }) => new Map(tree.entries.map((entry) => [entry.path, entry]))) as [
    Map<string, TreeEntry>,
    Map<string, TreeEntry>,
  ];
  return [...new Set([...one.keys(), ...other.keys()])].toSorted().flatMap((path) => {
    const [is, was] = [one.get(path), other.get(path)];
    if (is === undefined) return [`${path}: only the second builder made it`];
    if (was === undefined) return [`${path}: only the first builder made it`];
    return isDeepStrictEqual(is, was) ? [] : [`${path}: ${textOf(is)}, and ${textOf(was)}`];
  });
}

/** The fields of two records that differ, except those that follow from the bytes. */
function fieldDifferences(first: Payload, second: Payload): string[] {
  const own: ReadonlySet<string> = new Set(['tree', 'sha256', 'size', 'releaseFileOffset']);
  return [...new Set([...Object.keys(first), ...Object.keys(second)])]
    .filter((key) => !own.has(key) && !isDeepStrictEqual(first[key as keyof Payload], second[key as keyof Payload]))
    .map((key) => `the records differ in '${key}'`);
}

/** Throws a UserError (`different-payloads`) unless both builders made the same payload: the same bytes and the same record. Otherwise one of them was changed, or the build is not reproducible. */
function compare(first: Payload, second: Payload, job: Job, where: string): void {
  if (isDeepStrictEqual(first, second)) return;
  const trees = treeDifferences(first, second);
  const lines = [...trees, ...fieldDifferences(first, second)];
  const shown = lines.length === 0 ? ['the lists of files are the same, and the packed bytes differ'] : lines.slice(0, SHOWN);
  throw new UserError(
    [
      `two builders made different payloads of ${first.extension} ${first.version} (${first.arch}, ${first.format}):`,
      `  ${job.id}: sha256 ${first.sha256}, ${first.size} bytes`,
      `  ${secondId(job.id)}: sha256 ${second.sha256}, ${second.size} bytes`,
      ...shown.map((line) => `  ${line}`),
      ...(lines.length > SHOWN ? [`  and ${lines.length - SHOWN} more`] : []),
    ].join('\n'),
    {
      where,
      code: 'different-payloads',
      next: 'compare both with a build of your own (flatcar-ext build); one of the builders was changed, or the build is not reproducible. Nothing of it is published',
    },
  );
}

const slotOf = ({ payload: { upstream, format } }: BuiltPayload): string => `${upstream} ${format}`;

/** Throws unless the second builder of a job made the same payloads. */
export async function compareBuilders(built: string, job: Job, found: readonly BuiltPayload[]): Promise<void> {
  const again = new Map((await checkedPayloads(built, { ...job, id: secondId(job.id) })).map((one) => [slotOf(one), one]));
  for (const one of found) {
    const other = again.get(slotOf(one));
    if (other === undefined) throw new Error(`no second payload of ${slotOf(one)}`); // both have one of each slot
    compare(one.payload, other.payload, job, one.record);
  }
}

/** The number of builders of a job's payloads; undefined if nothing is compiled. Throws a UserError if the plan did not expect compilation. */
export function buildersOf({ id, second }: Job, found: readonly BuiltPayload[]): Payload['builders'] {
  if (second !== undefined) return second === 'compared' ? 2 : 1;
  const isCompiled = found.some(({ payload }) => payload.components.some(({ origin }) => COMPILING_ORIGINS.has(origin)));
  if (!isCompiled) return undefined;
  throw new UserError(`${id} is compiled, and was planned without a second builder`, {
    next: 'plan again: flatcar-ext ci plan, or with --no-second-builder to record that one job alone built it',
  });
}

/** Copies checked payloads to a folder, with the number of builders in their records; returns the paths of the records. */
export async function keepPayloads(found: readonly BuiltPayload[], builders: Payload['builders'], dir: string): Promise<string[]> {
  await makeFolder(dir);
  return Promise.all(
    found.map(async ({ payload, record }) => {
      const [from, to] = [join(record, '..', payload.file), join(dir, payload.file)];
      // A hard link costs no space; on another file system the file is copied.
      await link(from, to).catch(() => copyFile(from, to, constants.COPYFILE_EXCL));
      const kept = join(dir, `${payload.file}.payload.json`);
      await writeAtomic(kept, `${JSON.stringify({ ...payload, builders })}\n`);
      return kept;
    }),
  );
}
