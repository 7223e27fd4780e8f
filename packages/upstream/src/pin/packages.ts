import { basename } from 'node:path';
import {
  ARCHES,
  assertNotOlder,
  assertPackageVersion,
  isPackageLocator,
  resolvePackages,
  isNetworkFailure,
  UserError,
  type Arch,
  type Component,
  type DebianOrigin,
} from '@flatcar/core/engine';
import { archiveOf, newestPackages, memoize, type UpstreamContext } from '../context.ts';
import type { Lock } from './lock.ts';
import { lineOf, readBytes, type Bytes, type Line } from './request.ts';

/** The packages that a component needs today, for one architecture. Resolved once per run. */
export function packagesNow(
  origin: DebianOrigin,
  component: Component,
  arch: Arch,
  context: UpstreamContext,
): ReturnType<typeof resolvePackages> {
  const { store, report } = context;
  return memoize(context, `packages ${component.name} ${component.version} ${arch}`, async () => {
    const archive = await archiveOf(context);
    report({ type: 'step', text: `resolving the packages of ${component.name} for ${arch}` });
    return resolvePackages(origin, component, arch, { store, archive });
  });
}

/** The component of a lock that comes from packages; undefined if there is none. A lock can have one, because its packages are pinned together. */
function packagedComponent({ components, file }: Lock): { component: Component; origin: DebianOrigin } | undefined {
  const found = components.flatMap((component) =>
    component.origins.flatMap((origin) => (origin.kind === 'debian' ? [{ component, origin }] : [])),
  );
  const [first, second] = found;
  if (first !== undefined && second !== undefined)
    throw new UserError(`both '${first.component.name}' and '${second.component.name}' come from packages`, {
      where: file,
      next: 'give one of them a lock of its own, or make them one component',
    });
  return first;
}

/** The bytes of all packages that a component needs today for both architectures, and the newest timestamp of the archive's index. */
async function currentPackages(
  lock: Lock,
  { component, origin }: { readonly component: Component; readonly origin: DebianOrigin },
  context: UpstreamContext,
): Promise<{ bytes: Map<string, Bytes>; snapshot: string }> {
  // No version is pinned by an index that is older than that of any other version.
  const since = Object.values(lock.pins)
    .map((one) => one.snapshot ?? '')
    .toSorted()
    .at(-1);
  const name = lock.shared ? 'NAME' : basename(lock.dir);
  const bytes = new Map<string, Bytes>();
  let snapshot = '';
  for (const arch of ARCHES) {
    const { packages: listed, snapshot: date } = await newestPackages(origin.suite, arch, context);
    assertNotOlder(date, since, origin.suite);
    assertPackageVersion(
      origin,
      component,
      listed.map(({ path }) => `debian:${path}`),
      { where: lock.file, next: (actual) => `pin that version: flatcar-ext pin ${name}@${actual}` },
    );
    const now = await packagesNow(origin, component, arch, context);
    if (now.snapshot > snapshot) ({ snapshot } = now);
    for (const { locator, sha256, size } of now.packages) bytes.set(locator, { sha256, size, proof: { kind: 'debian' } });
  }
  return { bytes, snapshot };
}

/**
 * The packages of a lock's component with everything that they need, for both architectures together, because `all` packages belong to both.
 * If the archive does not answer, the pinned packages are kept. Throws a UserError if they changed, unless `revision`.
 */
export async function pinPackages(
  lock: Lock,
  revision: boolean,
  context: UpstreamContext,
): Promise<{ lines: Line[]; snapshot?: string | undefined }> {
  const packaged = packagedComponent(lock);
  if (packaged === undefined) return { lines: [] };
  const { component } = packaged;
  const pinned = lock.pins[lock.version];
  const before = new Map(Object.entries(pinned?.bytes ?? {}).filter(([locator]) => isPackageLocator(locator)));
  const current = await currentPackages(lock, packaged, context).catch((error: unknown) => {
    if (!isNetworkFailure(error) || before.size === 0) throw error;
    context.report({ type: 'notice', text: `${component.name}: ${error.message}; its packages were kept and NOT CHECKED` });
  });
  if (current === undefined)
    return { lines: [...before].map(([locator, one]) => lineOf(locator, component, readBytes(one), 'kept')), snapshot: pinned?.snapshot };
  const { bytes, snapshot } = current;
  const fresh = [...bytes.keys()].filter((locator) => before.get(locator)?.sha256 !== bytes.get(locator)?.sha256);
  const gone = [...before.keys()].filter((locator) => !bytes.has(locator));
  const isChanged = fresh.length + gone.length > 0;
  if (before.size > 0 && isChanged && !revision)
    throw new UserError(
      `${component.name} ${component.version} is pinned with other packages; the archive now has ${fresh.map((one) => basename(one, '.deb')).join(', ') || 'fewer'}`,
      { where: lock.file, next: 'pass --revision to pin these under a higher revision' },
    );
  const changeOf = (locator: string): Line['change'] => (!fresh.includes(locator) ? 'same' : before.size > 0 ? 'other' : 'new');
  const lines = [...bytes].map(([locator, one]) => lineOf(locator, component, one, changeOf(locator)));
  return { lines, snapshot: isChanged ? snapshot : pinned?.snapshot };
}
