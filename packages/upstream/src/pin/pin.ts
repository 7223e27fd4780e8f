import { mkdir } from 'node:fs/promises';
import { packagingDigest, UserError, UserErrors, writeAtomic, type PinnedVersion, locationOf } from '@flatcar/core/engine';
import type { UpstreamContext } from '../context.ts';
import { keptVersions } from '../sources/versions.ts';
import { pinOne, pinOrKeep } from './bytes.ts';
import { licenses } from './licenses.ts';
import { entryOf, locksOf, openLock, textOf, type Lock, type Written } from './lock.ts';
import { placeLockModules, type LockModule } from './lock-modules.ts';
import { pinPackages } from './packages.ts';
import { isRevision, type Line, type PinRequest, type PinResult } from './request.ts';
import { wantedOf } from './wanted.ts';

export type { PinnedLine, PinRequest, PinResult } from './request.ts';

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

async function coupledVersions(
  request: PinRequest,
  pinned: PinnedVersion | undefined,
  context: UpstreamContext,
): Promise<Record<string, string>> {
  const { extension, version, coupled = {} } = request;
  const unknown = Object.keys(coupled).find((name) => !(name in extension.coupled));
  if (unknown !== undefined)
    throw new UserError(`'${unknown}' is not coupled to ${extension.name}`, {
      next: `choose one of its coupled components: ${Object.keys(extension.coupled).join(', ') || 'it has none'}`,
    });
  const entries = Object.entries(extension.coupled).map(async ([name, source]): Promise<[string, string]> => {
    const known = coupled[name] ?? pinned?.coupled[name];
    if (known !== undefined) return [name, known];
    const next = `pass --coupled ${name}=VERSION`;
    const [newest] = await keptVersions(source, context, version).catch((cause: unknown) => {
      if (!(cause instanceof UserError)) throw cause;
      throw new UserError(`the version of '${name}' is unknown: ${cause.message}`, { where: cause.where, next, cause });
    });
    if (newest === undefined)
      throw new UserError(`upstream has no version of '${name}' that matches ${version}`, { where: locationOf(source), next });
    return [name, newest];
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** All results. Throws all UserErrors together, and any other error alone. */
async function allOrThrow<T>(jobs: readonly Promise<T>[], what: string): Promise<T[]> {
  const results = await Promise.allSettled(jobs);
  const errors = results.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  const [first] = errors;
  if (errors.length === 1 || errors.some((error) => !(error instanceof UserError))) throw first;
  if (errors.length > 1) throw new UserErrors(`${errors.length} ${what}; nothing was written`, errors as UserError[]);
  return results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}

/** What was found for one lock. */
interface Found {
  readonly lock: Lock;
  readonly lines: readonly Line[];
  readonly licenses: Readonly<Record<string, string>>;
  readonly snapshot: string | undefined;
}

/** Downloads and checks everything that the locks need. Lock modules that changed are added to `lockModules`. */
async function findAll(
  locks: readonly Lock[],
  request: PinRequest,
  temp: string,
  lockModules: LockModule[],
  context: UpstreamContext,
): Promise<Found[]> {
  const jobs = locks.flatMap((lock) =>
    wantedOf(lock).map(async (wanted) => ({
      lock,
      line: await pinOrKeep(wanted, request, () => pinOne(wanted, temp, isRevision(request), lockModules, context), context),
    })),
  );
  const packages = allOrThrow(
    locks.map((lock) => pinPackages(lock, isRevision(request), context)),
    'locks of packages could not be pinned',
  );
  packages.catch(() => undefined); // awaited below, after errors of single files
  const single = await allOrThrow(jobs, 'inputs could not be pinned');
  const ofPackages = await packages;
  const found = await allOrThrow(
    locks.map((lock) => licenses(lock, request, context)),
    'licences are unknown',
  );
  return locks.map((lock, index) => ({
    lock,
    lines: [...single.filter((one) => one.lock === lock).map(({ line }) => line), ...(ofPackages[index]?.lines ?? [])],
    licenses: found[index] ?? {},
    snapshot: ofPackages[index]?.snapshot,
  }));
}

/** Writes a lock's file if it changed, and returns its path. */
async function writeLock(lock: Lock, entry: Written): Promise<string[]> {
  const text = textOf(lock, lock.version, entry);
  if (text === lock.text) return [];
  await mkdir(lock.dir, { recursive: true });
  await writeAtomic(lock.file, text);
  return [lock.file];
}

/**
 * Pins one version of an extension for both architectures. Everything is downloaded into the store and checked by all that upstream publishes,
 * Go modules are resolved into lock modules, and the lock files are written only if nothing failed. If a host does not answer, its pin is kept,
 * with a notice. Throws all errors together.
 */
export async function pinVersion(request: PinRequest, context: UpstreamContext): Promise<PinResult> {
  // Locks may be shared: no other process writes between reading and writing.
  return context.store.lock('pin', () => pinLocked(request, context), context.signal);
}

async function pinLocked(request: PinRequest, context: UpstreamContext): Promise<PinResult> {
  const { extension, version, dir } = request;
  const own = await openLock(dir, version, false);
  const before = own.pins[version];
  const versions = await coupledVersions(request, before, context);
  if (before !== undefined && !isSame(before.coupled, versions) && !isRevision(request))
    throw new UserError(`${extension.name} ${version} is pinned with other versions: ${JSON.stringify(before.coupled)}`, {
      where: own.file,
      next: 'pass --revision to pin these under a higher revision',
    });
  const locks = await locksOf(request, own, versions);
  return context.store.withTemp(async (temp) => {
    const lockModules: LockModule[] = [];
    const found = await findAll(locks, request, temp, lockModules, context);
    const written = await placeLockModules(lockModules);
    const entryFor = ({ lock, lines, licenses: known, snapshot }: Found): Written =>
      entryOf(lock, request, lock.shared ? {} : versions, lines, known, snapshot);
    for (const one of found.filter(({ lock }) => lock.shared)) {
      const files = await writeLock(one.lock, entryFor(one));
      written.push(...files);
      if (files.length > 0 && one.lines.some(({ change }) => change === 'other'))
        context.report({
          type: 'notice',
          text: `${one.lock.file} is shared: the other extensions that use it need a higher revision as well (flatcar-ext lint lists them)`,
        });
    }
    // The extension's own lock is the last one, because it has a digest of all the others.
    const entry = entryFor(found.find(({ lock }) => lock === own) ?? { lock: own, lines: [], licenses: {}, snapshot: undefined });
    const pins = { ...own.pins, [version]: { ...entry, coupled: versions } };
    const packaging = await packagingDigest({ dir, extension, pins, fixture: false }, version);
    written.push(...(await writeLock(own, { ...entry, packaging })));
    const lines = found
      .flatMap((one) => one.lines)
      .map(({ locator, component, sha256, proof, change }) => ({ locator, component, sha256, proof, change }));
    return { extension: extension.name, version, revision: entry.revision, coupled: versions, lines, written };
  });
}
