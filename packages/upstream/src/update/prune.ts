import { glob, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  ARCHES,
  componentsOf,
  isPackageLocator,
  jsonObject,
  locatorOf,
  lockModuleDir,
  parseJson,
  writeAtomic,
  type LoadedExtension,
} from '@flatcar/core/engine';
import * as v from 'valibot';

/** What an extension's own lock has that no pinned version of its definition uses. */
export interface Unused {
  /** Locators in pins.json, by version. */
  readonly bytes: readonly { readonly version: string; readonly locator: string }[];
  /** Licences of components that the definition does not have, by version. */
  readonly licenses: readonly { readonly version: string; readonly component: string }[];
  /** Folders of lock modules. */
  readonly lockModules: readonly string[];
}

/** Compares the lock with what all pinned versions use. */
export async function findUnused(loaded: LoadedExtension): Promise<Unused> {
  const { dir, pins } = loaded;
  const bytes: { version: string; locator: string }[] = [];
  const licenses: { version: string; component: string }[] = [];
  const lockModules = new Set<string>();
  for (const [version, pin] of Object.entries(pins)) {
    const own = (await componentsOf(loaded, version)).components.filter((one) => one.dir === dir).map(({ component }) => component);
    const wanted = new Set(
      own.flatMap((component) => component.origins.flatMap((origin) => ARCHES.map((arch) => locatorOf(origin, component, arch) ?? ''))),
    );
    for (const component of own)
      for (const origin of component.origins)
        if (origin.kind === 'go' && origin.folder === undefined)
          lockModules.add(lockModuleDir(dir, origin.module, origin.version ?? component.version));
    // The dependencies of packages are resolved when they are pinned: the definition does not list them.
    bytes.push(
      ...Object.keys(pin.bytes)
        .filter((locator) => !wanted.has(locator) && !isPackageLocator(locator))
        .map((locator) => ({ version, locator })),
    );
    licenses.push(
      ...Object.keys(pin.licenses)
        .filter((name) => !own.some((one) => one.name === name))
        .map((component) => ({ version, component })),
    );
  }
  const existing = await Array.fromAsync(glob('go/**/go.mod', { cwd: dir }));
  return {
    bytes,
    licenses,
    lockModules: existing
      .map((file) => join(dir, dirname(file)))
      .filter((folder) => !lockModules.has(folder))
      .toSorted(),
  };
}

/** A lock's entry without some keys of one of its maps; the order of everything else stays. */
function withoutKeys(entry: unknown, map: 'bytes' | 'licenses', keys: readonly string[]): unknown {
  if (!v.is(jsonObject, entry) || !v.is(jsonObject, entry[map])) return entry;
  return { ...entry, [map]: Object.fromEntries(Object.entries(entry[map]).filter(([key]) => !keys.includes(key))) };
}

/** Removes a folder, and the parent folders that are empty then, up to `top`. */
async function removeFolder(folder: string, top: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  for (let up = dirname(folder); up !== top && up.startsWith(top); up = dirname(up)) {
    if ((await Array.fromAsync(glob('*', { cwd: up }))).length > 0) return;
    await rm(up, { recursive: true });
  }
}

/** Removes versions from an extension's lock, with everything that nothing uses then. Returns the files that changed and the folders that were removed. */
export async function pruneLock(loaded: LoadedExtension, versions: readonly string[]): Promise<{ written: string[]; removed: string[] }> {
  const { dir } = loaded;
  const file = join(dir, 'pins.json');
  const text = await readFile(file, 'utf8');
  const pins = Object.fromEntries(Object.entries(loaded.pins).filter(([version]) => !versions.includes(version)));
  const unused = await findUnused({ ...loaded, pins });
  const entries = Object.entries(parseJson(jsonObject, text, { what: 'pins.json', where: file }))
    .filter(([version]) => !versions.includes(version))
    .map(([version, entry]) => {
      const locators = unused.bytes.filter((one) => one.version === version).map(({ locator }) => locator);
      const components = unused.licenses.filter((one) => one.version === version).map(({ component }) => component);
      return [version, withoutKeys(withoutKeys(entry, 'bytes', locators), 'licenses', components)];
    });
  const after = `${JSON.stringify(Object.fromEntries(entries), undefined, 2)}\n`;
  if (after !== text) await writeAtomic(file, after);
  for (const folder of unused.lockModules) await removeFolder(folder, dir);
  return { written: after === text ? [] : [file], removed: [...unused.lockModules] };
}
