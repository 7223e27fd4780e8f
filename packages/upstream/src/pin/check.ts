import { formatProof, isPackageLocator, mapParallel, UserError, type Extension, type Pins } from '@flatcar/core/engine';
import type { UpstreamContext } from '../context.ts';
import { pinOne } from './bytes.ts';
import { checkGoSums } from './check-go.ts';
import { checkPackages } from './check-packages.ts';
import { locksOf, openLock, type Lock } from './lock.ts';
import { readBytes, type Bytes, type LockedBytes } from './request.ts';
import { compareBytes, verdictOfError, type Verdict } from './verdict.ts';
import { wantedOf, type Wanted } from './wanted.ts';

/** A pinned entry, compared with what upstream has. */
export interface CheckedPin extends Verdict {
  /** The lock file. */
  readonly file: string;
  readonly version: string;
  readonly component: string;
  readonly locator: string;
  readonly sha256: string;
  /** As the lock has it. */
  readonly proof: string;
}

/** What to check. */
export interface CheckRequest {
  readonly dir: string;
  readonly extension: Extension;
  readonly version: string;
  /** Lock files before a change, by path: their entries are not checked. */
  readonly before?: ReadonlyMap<string, Pins> | undefined;
  /** Entries of shared locks that were already checked for another extension. Checked entries are added. */
  readonly seen?: Set<string>;
}

async function checkOne(wanted: Wanted, pinned: Bytes, temp: string, context: UpstreamContext): Promise<Verdict> {
  try {
    if (wanted.origin.kind !== 'go') return compareBytes(pinned, await pinOne(wanted, temp, false, [], context));
    await checkGoSums(wanted.origin, wanted, pinned, context);
    return compareBytes(pinned, { ...pinned, proof: { kind: 'go' } });
  } catch (error) {
    return verdictOfError(error);
  }
}

/** Entries that no origin uses, so that their bytes cannot be derived. Of a shared lock, other extensions use the rest. */
function unusedEntries(lock: Lock, hasPackages: boolean): [string, LockedBytes][] {
  if (lock.shared) return [];
  const used = new Set(wantedOf(lock).map(({ locator }) => locator));
  const { bytes = {} } = lock.pins[lock.version] ?? {};
  return Object.entries(bytes).filter(([locator]) => !used.has(locator) && !(hasPackages && isPackageLocator(locator)));
}

const checkedPin = (lock: Lock, component: string, locator: string, { sha256, proof }: Bytes, verdict: Verdict): CheckedPin => ({
  file: lock.file,
  version: lock.version,
  component,
  locator,
  sha256,
  proof: formatProof(proof),
  ...verdict,
});

/** Checks the entries of one lock for which `isNew` is true. */
async function checkLock(
  lock: Lock,
  isNew: (locator: string, pinned: LockedBytes) => boolean,
  temp: string,
  context: UpstreamContext,
): Promise<CheckedPin[]> {
  const { bytes = {} } = lock.pins[lock.version] ?? {};
  const wanted = wantedOf(lock).flatMap((one) => {
    const pinned = bytes[one.locator];
    return pinned === undefined || !isNew(one.locator, pinned) ? [] : [{ one, pinned: readBytes(pinned) }];
  });
  const checked = await mapParallel(
    wanted,
    async ({ one, pinned }) => checkedPin(lock, one.component.name, one.locator, pinned, await checkOne(one, pinned, temp, context)),
    4,
  );
  const [packaged] = lock.components.flatMap((component) =>
    component.origins.flatMap((origin) => (origin.kind === 'debian' ? [{ component, origin }] : [])),
  );
  const unused = unusedEntries(lock, packaged !== undefined)
    .filter(([locator, pinned]) => isNew(locator, pinned))
    .map(([locator, pinned]) =>
      checkedPin(lock, '', locator, readBytes(pinned), { state: 'different', found: 'nothing in the definition uses it' }),
    );
  if (packaged === undefined) return [...checked, ...unused];
  const packages = Object.entries(bytes)
    .filter(([locator, pinned]) => isPackageLocator(locator) && isNew(locator, pinned))
    .map(([locator, pinned]) => [locator, readBytes(pinned)] as const);
  const verdicts = await checkPackages(lock, packaged.origin, packages, context);
  const ofPackages = packages.map(([locator, pinned], index) =>
    checkedPin(lock, packaged.component.name, locator, pinned, verdicts[index] ?? { state: 'unreached', found: '' }),
  );
  return [...checked, ...unused, ...ofPackages];
}

/**
 * Derives the digests and proofs of a version's pins again from upstream, in its own lock and in shared ones, and compares them with the pinned
 * ones. Writes nothing, and trusts nothing that is pinned.
 */
export async function checkPins(request: CheckRequest, context: UpstreamContext): Promise<CheckedPin[]> {
  const { extension, version, dir, before, seen = new Set() } = request;
  const own = await openLock(dir, version, false);
  const pins = own.pins[version];
  if (pins === undefined) throw new UserError(`${extension.name} ${version} is not pinned`, { where: own.file });
  const locks = await locksOf({ dir, extension, version }, own, pins.coupled);
  const isNew = (lock: Lock, locator: string, pinned: LockedBytes): boolean => {
    const key = `${lock.file} ${lock.version} ${locator}`;
    if (seen.has(key)) return false;
    seen.add(key);
    const entries = Object.values(before?.get(lock.file) ?? {}).flatMap((one) => one.bytes[locator] ?? []);
    return !entries.some(({ sha256, size, proof }) => sha256 === pinned.sha256 && size === pinned.size && proof === pinned.proof);
  };
  return context.store.withTemp(async (temp) => {
    const checked: CheckedPin[] = [];
    for (const lock of locks) checked.push(...(await checkLock(lock, (locator, pinned) => isNew(lock, locator, pinned), temp, context)));
    return checked;
  });
}
