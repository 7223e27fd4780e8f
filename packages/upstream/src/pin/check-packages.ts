import { ARCHES, openArchive, snapshotArchive, UnreachableError, type DebianOrigin } from '@flatcar/core/engine';
import { archiveOf, memoize, type UpstreamContext } from '../context.ts';
import type { Lock } from './lock.ts';
import type { Bytes } from './request.ts';
import { compareBytes, verdictOfError, type Verdict } from './verdict.ts';

type Index = ReadonlyMap<string, { sha256: string; size: number }>;

/** The packages that an archive's signed index lists, by path. */
async function indexOf(archive: ReturnType<typeof openArchive>, suite: string): Promise<Index> {
  const lists = await Promise.all(ARCHES.map((arch) => archive.newest(suite, arch)));
  return new Map(lists.flatMap(({ packages }) => packages.map(({ path, sha256, size }) => [path, { sha256, size }] as const)));
}

/** Compares pinned packages with today's index, or if that does not list them, with the index of the time at which they were pinned. */
export async function checkPackages(
  lock: Lock,
  { suite }: DebianOrigin,
  entries: readonly (readonly [locator: string, pinned: Bytes])[],
  context: UpstreamContext,
): Promise<Verdict[]> {
  const snapshot = lock.pins[lock.version]?.snapshot;
  const { store, report } = context;
  const today = async (): Promise<Index> => indexOf(await archiveOf(context), suite);
  const then = async (): Promise<Index> => {
    if (snapshot === undefined) throw new UnreachableError('the lock has no timestamp of a snapshot archive', { where: lock.file });
    return indexOf(openArchive(store, report, { mirror: `${snapshotArchive()}/${snapshot}` }), suite);
  };
  const read = (key: string, index: () => Promise<Index>): Promise<Index | Verdict> =>
    memoize(context, key, () => index().catch(verdictOfError));
  const verdict = (found: Index | Verdict, locator: string, pinned: Bytes): Verdict | undefined => {
    if ('state' in found) return found;
    const entry = found.get(locator.replace(/^debian:/, ''));
    return entry === undefined ? undefined : compareBytes(pinned, { ...entry, proof: { kind: 'debian' } });
  };
  return Promise.all(
    entries.map(async ([locator, pinned]) => {
      const now = verdict(await read(`index ${suite}`, today), locator, pinned);
      if (now !== undefined && now.state !== 'unreached') return now;
      const before = verdict(await read(`index ${suite} ${snapshot ?? ''}`, then), locator, pinned);
      return before ?? { state: 'unreached', found: `neither ${suite} nor its snapshot ${snapshot ?? ''} lists it` };
    }),
  );
}
