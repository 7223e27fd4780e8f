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
import type { Bytes, PinnedLine } from './request.ts';

/** What a component's packages are now, for one architecture; asked for once. */
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

type Line = PinnedLine & { bytes: Bytes };

/** The packages of a lock's component, with all that they need: those of both architectures together, as `all` belongs to both. */
export async function pinPackages(lock: Lock, revision: boolean, context: UpstreamContext): Promise<{ lines: Line[]; snapshot?: string }> {
  const found = lock.components.flatMap((component) =>
    component.origins.flatMap((origin) => (origin.kind === 'debian' ? [{ component, origin }] : [])),
  );
  const [first, second] = found;
  if (first === undefined) return { lines: [] };
  if (second !== undefined)
    throw new UserError(`both '${first.component.name}' and '${second.component.name}' are made of packages`, {
      where: lock.file,
      next: 'give one of them a lock of its own, or make them one component',
    });
  const { component, origin } = first;
  const pinned = lock.pins[lock.version];
  const before = new Map(Object.entries(pinned?.bytes ?? {}).filter(([locator]) => isPackageLocator(locator)));
  const line = (locator: string, bytes: Bytes, change: PinnedLine['change']): Line => {
    const { sha256, proof } = bytes;
    return { locator, component: component.name, sha256, proof, change, bytes };
  };
  const kept = pinned?.snapshot === undefined ? {} : { snapshot: pinned.snapshot };
  // Of all versions: a new one is pinned by an index that is no older than those before.
  const since = Object.values(lock.pins)
    .map((one) => one.snapshot ?? '')
    .toSorted()
    .at(-1);
  let snapshot = '';
  const bytes = new Map<string, Bytes>();
  try {
    for (const arch of ARCHES) {
      const { packages: listed, snapshot: date } = await newestPackages(origin.suite, arch, context);
      assertNotOlder(date, since, origin.suite);
      assertPackageVersion(
        origin,
        component,
        listed.map(({ path }) => `debian:${path}`),
        { where: lock.file, next: (actual) => `pin that version: flatcar-ext pin ${lock.shared ? 'NAME' : basename(lock.dir)}@${actual}` },
      );
      const now = await packagesNow(origin, component, arch, context);
      if (now.snapshot > snapshot) ({ snapshot } = now);
      for (const { locator, sha256, size, proof } of now.packages) bytes.set(locator, { sha256, size, proof });
    }
  } catch (error) {
    if (!isNetworkFailure(error) || before.size === 0) throw error;
    context.report({ type: 'notice', text: `${component.name}: ${error.message}; its packages stay as they were, UNCHECKED` });
    return { lines: [...before].map(([locator, one]) => line(locator, one, 'kept')), ...kept };
  }
  const fresh = [...bytes.keys()].filter((locator) => before.get(locator)?.sha256 !== bytes.get(locator)?.sha256);
  const gone = [...before.keys()].filter((locator) => !bytes.has(locator));
  if (before.size > 0 && fresh.length + gone.length > 0 && !revision)
    throw new UserError(
      `${component.name} ${component.version} is pinned with other packages; the archive has ${fresh.map((one) => basename(one, '.deb')).join(', ') || 'fewer'} now`,
      { where: lock.file, next: '--revision pins these under a higher revision' },
    );
  const lines = [...bytes].map(([locator, one]) =>
    line(locator, one, fresh.includes(locator) ? (before.size > 0 ? 'other' : 'new') : 'same'),
  );
  return { lines, ...(fresh.length + gone.length === 0 ? kept : { snapshot }) };
}
