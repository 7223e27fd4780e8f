import { copyFile, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expandTemplate, goSumDigest, mainPackages, openGo, pinGo, lockModuleDir, type GoOrigin } from '@flatcar/core/engine';
import { memoize, type UpstreamContext } from '../context.ts';
import type { Bytes } from './request.ts';
import type { Wanted } from './wanted.ts';

/** A lock module in a temporary folder, and where it belongs. */
export interface LockModule {
  readonly from: string;
  readonly to: string;
}

/**
 * A Go module's pin is the digest of the go.sum of its lock module. A pinned lock module with all programs is kept, because some versions would
 * resolve differently tomorrow; any other is written into a temporary folder and added to `lockModules`.
 */
export async function pinGoModule(
  origin: GoOrigin,
  { component, packages, lock, locator }: Wanted,
  temp: string,
  again: boolean,
  lockModules: LockModule[],
  context: UpstreamContext,
): Promise<Bytes> {
  const { store, tools, report } = context;
  const proof = { kind: 'go' } as const;
  const version = origin.version ?? component.version;
  const to = lockModuleDir(lock.dir, origin.module, version);
  const go = await memoize(context, 'go', () => openGo(store, tools, report));
  report({ type: 'step', text: `resolving the modules of ${origin.module} ${version}` });
  const existing = await goSumDigest(to).catch(() => undefined);
  if (!again && existing !== undefined && existing === lock.pins[lock.version]?.bytes[locator]?.sha256) {
    const isComplete = await mainPackages(go, to, origin.module, packages).then(
      () => true,
      () => false,
    );
    if (isComplete) {
      await go.online(['mod', 'download'], { cwd: to });
      return { sha256: existing, proof };
    }
  }
  const from = join(temp, String(lockModules.length));
  lockModules.push({ from, to });
  const [major = '', minor = '', patch = ''] = version.split('.');
  const local = origin.stagingVersion === undefined ? undefined : expandTemplate(origin.stagingVersion, { version, major, minor, patch });
  await pinGo(go, from, origin.module, version, packages, () => local);
  return { sha256: await goSumDigest(from), proof };
}

/** go.mod and go.sum of a lock module; undefined if there is none. */
async function lockModuleText(dir: string): Promise<string | undefined> {
  const files = ['go.mod', 'go.sum'].map((name) => readFile(join(dir, name), 'utf8'));
  return Promise.all(files).then(
    (texts) => texts.join(),
    () => undefined,
  );
}

/** Moves the lock modules that differ from the existing ones into place, and returns their folders. */
export async function placeLockModules(lockModules: readonly LockModule[]): Promise<string[]> {
  const placed: string[] = [];
  for (const { from, to } of lockModules) {
    const [fresh, existing] = await Promise.all([from, to].map(lockModuleText));
    if (fresh === undefined || fresh === existing) continue; // a proxy that did not answer left none
    await place({ from, to });
    placed.push(to);
  }
  return placed;
}

/** Replaces a lock module as a whole, by a rename in the same folder. */
async function place({ from, to }: LockModule): Promise<void> {
  const fresh = `${to}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  for (const name of ['go.mod', 'go.sum']) await copyFile(join(from, name), join(fresh, name));
  await rm(to, { recursive: true, force: true });
  await mkdir(dirname(to), { recursive: true });
  await rename(fresh, to);
}
