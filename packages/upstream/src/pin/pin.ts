import { mkdir } from 'node:fs/promises';
import { packagingDigest, UserError, UserErrors, writeAtomic, type PinnedVersion } from '@flatcar/core/engine';
import type { UpstreamContext } from '../context.ts';
import { pinOne, settle } from './bytes.ts';
import { licenses } from './licenses.ts';
import { entryOf, locksOf, openLock, textOf, type Lock, type Written } from './lock.ts';
import { pinPackages } from './packages.ts';
import { isRevision, type PinRequest, type PinResult } from './request.ts';
import { placeLockModules, type LockModule } from './lock-modules.ts';
import { wantedOf } from './wanted.ts';
import { keptVersions } from '../sources/versions.ts';

export type { PinnedLine, PinRequest, PinResult } from './request.ts';

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

async function coupledVersions(
  request: PinRequest,
  pinned: PinnedVersion | undefined,
  context: UpstreamContext,
): Promise<Record<string, string>> {
  const { extension, version, coupled = {} } = request;
  const unknown = Object.keys(coupled).find((name) => !(name in extension.coupled));
  if (unknown !== undefined)
    throw new UserError(`'${unknown}' is not coupled to ${extension.name}`, {
      next: `coupled are: ${Object.keys(extension.coupled).join(', ') || 'none'}`,
    });
  const entries = Object.entries(extension.coupled).map(async ([name, source]): Promise<[string, string]> => {
    const known = coupled[name] ?? pinned?.with[name];
    if (known !== undefined) return [name, known];
    const [newest] = await keptVersions(source, context, version).catch((cause: unknown) => {
      if (!(cause instanceof UserError)) throw cause;
      throw new UserError(`the version of '${name}' is not known: ${cause.message}`, {
        ...(cause.where === undefined ? {} : { where: cause.where }),
        next: `say it: --coupled ${name}=VERSION`,
        cause,
      });
    });
    if (newest === undefined)
      throw new UserError(`upstream has no version of '${name}' that fits`, {
        where: source.at,
        next: `say it: --coupled ${name}=VERSION`,
      });
    return [name, newest];
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** All errors together; what is no UserError at once. */
async function settled<T>(jobs: readonly Promise<T>[], what: string): Promise<T[]> {
  const results = await Promise.allSettled(jobs);
  const errors = results.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  const [first] = errors;
  if (errors.length === 1 || errors.some((error) => !(error instanceof UserError))) throw first;
  if (errors.length > 1) throw new UserErrors(`${errors.length} ${what}; nothing was written`, errors as UserError[]);
  return results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}

/**
 * Pins one version of an extension for both architectures: everything is downloaded into the store and checked by all that upstream
 * publishes, Go modules are resolved into lock modules, and only when nothing failed are the lock files written.
 * A pin whose host cannot be reached stays as it is, with a notice. All errors are shown together.
 */
export async function pinVersion(request: PinRequest, context: UpstreamContext): Promise<PinResult> {
  // Locks may be shared, and are read before they are written.
  return context.store.lock('pin', () => pinAlone(request, context), context.signal);
}

async function pinAlone(request: PinRequest, context: UpstreamContext): Promise<PinResult> {
  const { extension, version, dir } = request;
  const own = await openLock(dir, version, false);
  const before = own.pins[version];
  const versions = await coupledVersions(request, before, context);
  if (before !== undefined && !same(before.with, versions) && !isRevision(request))
    throw new UserError(`${extension.name} ${version} is pinned with other versions: ${JSON.stringify(before.with)}`, {
      where: own.file,
      next: '--revision pins these under a higher revision',
    });
  const locks = await locksOf(request, own, versions);
  return context.store.withTemp(async (temp) => {
    const lockModules: LockModule[] = [];
    const jobs = locks.flatMap((lock) =>
      wantedOf(lock).map(async (wanted) => ({
        lock,
        ...(await settle(wanted, request, () => pinOne(wanted, temp, isRevision(request), lockModules, context), context)),
      })),
    );
    const packages = settled(
      locks.map((lock) => pinPackages(lock, isRevision(request), context)),
      'locks of packages could not be pinned',
    );
    packages.catch(() => undefined); // awaited below, after what is told first
    const single = await settled(jobs, 'things could not be pinned');
    const ofPackages = await packages;
    const lines = [...single, ...locks.flatMap((lock, index) => (ofPackages[index]?.lines ?? []).map((line) => ({ lock, ...line })))];
    const found = await settled(
      locks.map((lock) => licenses(lock, request, context)),
      'licences are not known',
    );
    const written = await placeLockModules(lockModules);
    const entries = new Map(
      locks.map((lock, index) => {
        const ofLock = lines.filter((line) => line.lock === lock);
        return [lock, entryOf(lock, request, lock.shared ? {} : versions, ofLock, found[index] ?? {}, ofPackages[index]?.snapshot)];
      }),
    );
    const write = async (lock: Lock, entry: Written): Promise<void> => {
      const text = textOf(lock, lock.version, entry);
      if (text === lock.text) return;
      if (lock.shared && lines.some((line) => line.lock === lock && line.change === 'other'))
        context.report({
          type: 'notice',
          text: `${lock.file} is shared: the other extensions that read it need a higher revision as well (flatcar-ext lint lists them)`,
        });
      await mkdir(lock.dir, { recursive: true });
      await writeAtomic(lock.file, text);
      written.push(lock.file);
    };
    // The extension's own lock is the last: it has a digest of all the others.
    for (const [lock, entry] of entries) if (lock.shared) await write(lock, entry);
    const entry = entries.get(own) ?? entryOf(own, request, versions, [], {}, undefined);
    const pins = { ...own.pins, [version]: { ...entry, with: versions } };
    const packaging = await packagingDigest({ dir, extension, pins, fixture: false }, version);
    await write(own, { ...entry, packaging });
    const { revision } = entry;
    const shown = lines.map(({ locator, component, sha256, proof, change }) => ({ locator, component, sha256, proof, change }));
    return { extension: extension.name, version, revision, with: versions, lines: shown, written };
  });
}
