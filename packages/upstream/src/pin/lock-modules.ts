import { copyFile, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expandTemplate, goSumDigest, mainPackages, openGo, pinGo, lockModuleDir, type GoOrigin } from '@flatcar/core/engine';
import { memoize, type UpstreamContext } from '../context.ts';
import type { Bytes } from './request.ts';
import type { Wanted } from './wanted.ts';

/** A lock module that waits to be put in its place. */
export interface LockModule {
  readonly from: string;
  readonly to: string;
}

/**
 * A Go module's pin is the digest of the go.sum of its lock module. A lock module that is pinned and has all programs stays (what nobody has a
 * version of would be resolved otherwise tomorrow); any other is written into a temporary folder.
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
  const proof = 'Go checksum database';
  const version = origin.version ?? component.version;
  const to = lockModuleDir(lock.dir, origin.module, version);
  const go = await memoize(context, 'go', () => openGo(store, tools, report));
  report({ type: 'step', text: `resolving the modules of ${origin.module} ${version}` });
  const is = await goSumDigest(to).catch(() => undefined);
  if (!again && is !== undefined && is === lock.pins[lock.version]?.bytes[locator]?.sha256) {
    const complete = await mainPackages(go, to, origin.module, packages).then(
      () => true,
      () => false,
    );
    if (complete) {
      await go.online(['mod', 'download'], { cwd: to });
      return { sha256: is, proof };
    }
  }
  const from = join(temp, String(lockModules.length));
  lockModules.push({ from, to });
  const [major = '', minor = '', patch = ''] = version.split('.');
  const local = origin.local === undefined ? undefined : expandTemplate(origin.local, { version, major, minor, patch });
  await pinGo(go, from, origin.module, version, packages, () => local);
  return { sha256: await goSumDigest(from), proof };
}

/** go.mod and go.sum of a lock module; undefined where there is none. */
async function lockModuleText(dir: string): Promise<string | undefined> {
  const files = ['go.mod', 'go.sum'].map((name) => readFile(join(dir, name), 'utf8'));
  return Promise.all(files).then(
    (texts) => texts.join(),
    () => undefined,
  );
}

/** Puts those lock modules that say something else than what is there in their places, and gives these. */
export async function placeLockModules(lockModules: readonly LockModule[]): Promise<string[]> {
  const placed: string[] = [];
  for (const { from, to } of lockModules) {
    const [fresh, there] = await Promise.all([from, to].map(lockModuleText));
    if (fresh === undefined || fresh === there) continue; // a proxy that did not answer left none
    await place({ from, to });
    placed.push(to);
  }
  return placed;
}

/** Puts a lock module in the place of an older one: as a whole, by a rename in the same folder. */
async function place({ from, to }: LockModule): Promise<void> {
  const fresh = `${to}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  for (const name of ['go.mod', 'go.sum']) await copyFile(join(from, name), join(fresh, name));
  await rm(to, { recursive: true, force: true });
  await mkdir(dirname(to), { recursive: true });
  await rename(fresh, to);
}
