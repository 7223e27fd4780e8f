import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  HttpStatusError,
  cargoHomeOf,
  debianMirror,
  downloadCrate,
  formatProof,
  openCargo,
  isNetworkFailure,
  UserError,
  type CargoOrigin,
} from '@flatcar/core/engine';
import { archiveOf, type UpstreamContext } from '../context.ts';
import { isFirstDownload } from '../verify/proof.ts';
import { fetchVerified } from '../verify/verify.ts';
import { pinGoModule, type LockModule } from './lock-modules.ts';
import { isRevision, lineOf, readBytes, type Bytes, type Line, type PinRequest } from './request.ts';
import type { Wanted } from './wanted.ts';

/** Suites that have sources, in the order in which they are searched. */
const SOURCE_SUITES = ['sid', 'trixie'];

/** Throws if the address of a file contains a version, but not the component's: the definition has a version in place of `{version}`. */
function assertNamesVersion({ origin, component, locator, lock }: Wanted): void {
  if (origin.kind !== 'upstream' && origin.kind !== 'source') return;
  const { version, name } = component;
  const path = decodeURIComponent(locator.replace(/^https?:\/\/[^/]+/, ''));
  const [named] = path.match(/\d+(?:\.\d+)+/g) ?? [];
  if (named === undefined || path.includes(version) || version.startsWith(`${named}.`)) return;
  throw new UserError(`${name} ${version} uses a file of version ${named}`, {
    where: `${locator} (${lock.dir}/extension.ts)`,
    next: 'write {version} where the address has the version; a file with a version of its own must be a component of its own',
  });
}

async function pinCrate({ crate }: CargoOrigin, { component }: Wanted, temp: string, context: UpstreamContext): Promise<Bytes> {
  const { store, toolchains, signal } = context;
  const cargo = await openCargo((await toolchains.rust()).bin, cargoHomeOf(store), { signal });
  const file = join(temp, `${crate}.crate`);
  await copyFile(await downloadCrate(cargo, crate, component.version), file);
  const { sha256, size } = await store.keep(file);
  return { sha256, size, proof: { kind: 'crates' } };
}

async function pinSource({ locator, lock }: Wanted, context: UpstreamContext): Promise<Bytes> {
  const archive = await archiveOf(context);
  const path = locator.replace(/^debian:/, '');
  const found = await archive.sourceFile(path, SOURCE_SUITES);
  if (found === undefined)
    throw new UserError(`Debian's ${SOURCE_SUITES.join(' and ')} do not have ${path}`, {
      where: await debianMirror(),
      next: 'pin a version that Debian has, with its path on the mirror',
    });
  const { sha256, size } = found;
  await archive.fetchSource({ path, sha256, size }).catch((error: unknown) => {
    // The archive's index lists a file for a while after it was removed.
    const isGone = error instanceof UserError && error.cause instanceof HttpStatusError;
    if (!isGone || lock.pins[lock.version]?.bytes[locator]?.sha256 !== sha256) throw error;
    context.report({ type: 'notice', text: `${locator}: ${error.message}; the index still has the pinned digest` });
  });
  return { sha256, size, proof: { kind: 'debian' } };
}

/**
 * Derives the digest, size and proof of bytes from upstream. `again` resolves a Go module again even if its lock module is pinned; a new lock
 * module is added to `lockModules`.
 */
export async function pinOne(
  wanted: Wanted,
  temp: string,
  again: boolean,
  lockModules: LockModule[],
  context: UpstreamContext,
): Promise<Bytes> {
  const { origin, component, arch, lock } = wanted;
  assertNamesVersion(wanted);
  switch (origin.kind) {
    case 'upstream': {
      const { sha256, size, proof } = await fetchVerified(origin, component, arch, lock.dir, context);
      return { sha256, size, proof };
    }
    case 'go':
      return pinGoModule(origin, wanted, temp, again, lockModules, context);
    case 'cargo':
      return pinCrate(origin, wanted, temp, context);
    case 'source':
      return pinSource(wanted, context);
    case 'debian':
      throw new Error('packages are pinned together: pinPackages');
    case 'files':
      throw new Error('files of this repository are not pinned');
  }
}

/** Pins one set of bytes and compares it with the existing pin, which is kept if upstream does not answer. */
export async function pinOrKeep(wanted: Wanted, request: PinRequest, pin: () => Promise<Bytes>, context: UpstreamContext): Promise<Line> {
  const line = (bytes: Bytes, change: Line['change']): Line => lineOf(wanted.locator, wanted.component, bytes, change);
  const { locator, component, lock } = wanted;
  const pinned = lock.pins[lock.version]?.bytes[locator];
  const before = pinned === undefined ? undefined : readBytes(pinned);
  const reused = request.reusePins === true ? Object.values(lock.pins).find(({ bytes }) => locator in bytes)?.bytes[locator] : undefined;
  if (reused !== undefined) return line(readBytes(reused), 'carried');
  let bytes: Bytes;
  try {
    bytes = await pin();
  } catch (error) {
    if (!isNetworkFailure(error)) throw error;
    if (before === undefined)
      throw new UserError(`cannot pin ${component.name} ${component.version}: ${error.message}`, {
        where: locator,
        next: error.next,
        cause: error,
      });
    context.report({
      type: 'notice',
      text: `${locator}: ${error.message}; its pin was kept and NOT CHECKED (${formatProof(before.proof)})`,
    });
    return line(before, 'kept');
  }
  const change = before === undefined ? 'new' : before.sha256 === bytes.sha256 ? 'same' : 'other';
  if (change === 'other' && !isRevision(request))
    throw new UserError(`${component.name} ${component.version} is pinned as ${before?.sha256}, but upstream now has ${bytes.sha256}`, {
      where: locator,
      next: 'find out why the bytes changed; if the new bytes are right, pass --revision to pin them under a higher revision',
    });
  // A download of the same bytes is weaker than any proof that is recorded.
  if (change === 'same' && before !== undefined && isFirstDownload(bytes.proof)) bytes = { ...bytes, proof: before.proof };
  return line(bytes, change);
}
