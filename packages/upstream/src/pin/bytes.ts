import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HttpStatusError, cargoHomeOf, debianMirror, downloadCrate, openCargo, isNetworkFailure, UserError } from '@flatcar/core/engine';
import { archiveOf, type UpstreamContext } from '../context.ts';
import { FIRST_DOWNLOAD } from '../verify/proof.ts';
import { fetchVerified } from '../verify/verify.ts';
import { pinGoModule, type LockModule } from './lock-modules.ts';
import { isRevision, type Bytes, type PinnedLine, type PinRequest } from './request.ts';
import type { Wanted } from './wanted.ts';

/** Where sources are looked for, one after another. */
const SOURCE_SUITES = ['sid', 'trixie'];

/** Throws where the address of a file names a version, and not the component's: a URL that no version is filled into. */
function assertNamesVersion({ origin, component, locator, lock }: Wanted): void {
  if (origin.kind !== 'release' && origin.kind !== 'source') return;
  const { version, name } = component;
  const path = decodeURIComponent(locator.replace(/^https?:\/\/[^/]+/, ''));
  const [named] = path.match(/\d+(?:\.\d+)+/g) ?? [];
  if (named === undefined || path.includes(version) || version.startsWith(`${named}.`)) return;
  throw new UserError(`${name} ${version} is made of a file of version ${named}`, {
    where: `${locator} (${lock.dir}/extension.ts)`,
    next: 'write {version} where the address has the version; what has a version of its own is a component with that version',
  });
}

/** Finds out what the bytes must be, from upstream itself. */
export async function pinOne(
  wanted: Wanted,
  temp: string,
  again: boolean,
  lockModules: LockModule[],
  context: UpstreamContext,
): Promise<Bytes> {
  const { origin, component, arch, lock, locator } = wanted;
  const { store, toolchains, signal } = context;
  assertNamesVersion(wanted);
  switch (origin.kind) {
    case 'release': {
      const { sha256, size, proof } = await fetchVerified(origin, component, arch, lock.dir, context);
      return { sha256, size, proof };
    }
    case 'go':
      return pinGoModule(origin, wanted, temp, again, lockModules, context);
    case 'cargo': {
      const cargo = await openCargo((await toolchains.rust()).bin, cargoHomeOf(store), signal === undefined ? {} : { signal });
      const crate = join(temp, `${origin.crate}.crate`);
      await copyFile(await downloadCrate(cargo, origin.crate, component.version), crate);
      const { sha256, size } = await store.keep(crate);
      return { sha256, size, proof: 'crates registry index' };
    }
    case 'source': {
      const archive = await archiveOf(context);
      const path = locator.replace(/^debian:/, '');
      const found = await archive.sourceFile(path, SOURCE_SUITES);
      if (found === undefined)
        throw new UserError(`Debian's ${SOURCE_SUITES.join(' and ')} have no ${path}`, {
          where: await debianMirror(),
          next: 'pin a version that Debian has, and look for its path on the mirror',
        });
      const { sha256, size } = found;
      await archive.fetchSource({ path, sha256, size }).catch((error: unknown) => {
        // The archive keeps an index for a while longer than what it lists.
        const isGone = error instanceof UserError && error.cause instanceof HttpStatusError;
        if (!isGone || lock.pins[lock.version]?.bytes[locator]?.sha256 !== sha256) throw error;
        context.report({ type: 'notice', text: `${locator}: ${error.message}, but its index still has the digest that is pinned` });
      });
      return { sha256, size, proof: 'Debian archive index, signed by the archive key' };
    }
    case 'debian':
      throw new Error('packages are pinned together: pinPackages');
    case 'files':
      throw new Error('files of this repository are not pinned');
  }
}

/** Asks for one set of bytes and compares it with the pin that is there. */
export async function settle(
  wanted: Wanted,
  request: PinRequest,
  pin: () => Promise<Bytes>,
  context: UpstreamContext,
): Promise<PinnedLine & { bytes: Bytes }> {
  const { locator, component, lock } = wanted;
  const before = lock.pins[lock.version]?.bytes[locator];
  const carried =
    request.carry === true ? Object.values(lock.pins).find(({ bytes }) => bytes[locator] !== undefined)?.bytes[locator] : undefined;
  if (carried !== undefined)
    return { locator, component: component.name, sha256: carried.sha256, proof: carried.proof, change: 'carried', bytes: carried };
  let bytes: Bytes;
  try {
    bytes = await pin();
  } catch (error) {
    if (!isNetworkFailure(error)) throw error;
    if (before === undefined)
      throw new UserError(`${component.name} ${component.version} cannot be pinned: ${error.message}`, {
        where: locator,
        ...(error.next === undefined ? {} : { next: error.next }),
        cause: error,
      });
    context.report({ type: 'notice', text: `${locator}: ${error.message}; its pin stays as it was, UNCHECKED (${before.proof})` });
    return { locator, component: component.name, sha256: before.sha256, proof: before.proof, change: 'kept', bytes: before };
  }
  const change = before === undefined ? 'new' : before.sha256 === bytes.sha256 ? 'same' : 'other';
  if (change === 'other' && !isRevision(request))
    throw new UserError(`${component.name} ${component.version} was pinned as ${before?.sha256}, and is ${bytes.sha256} now`, {
      where: locator,
      next: 'find out why before anything else; if the new bytes are right, --revision pins them under a higher revision',
    });
  // That the same bytes came once more says less than what somebody else found out about them.
  if (change === 'same' && bytes.proof === FIRST_DOWNLOAD && before !== undefined) bytes = { ...bytes, proof: before.proof };
  return { locator, component: component.name, sha256: bytes.sha256, proof: bytes.proof, change, bytes };
}
