import { glob, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ARCHES, componentsOf, isPackageLocator, locatorOf, lockModuleDir, writeAtomic, type LoadedExtension } from '@flatcar/core/engine';

/** What an extension's own lock has that no version of its definition asks for. */
export interface Unused {
  /** Locators in pins.json, by version. */
  readonly bytes: readonly { readonly version: string; readonly locator: string }[];
  /** Licences of components that are not there, by version. */
  readonly licenses: readonly { readonly version: string; readonly component: string }[];
  /** Folders of lock modules. */
  readonly lockModules: readonly string[];
}

/** Compares the lock with what all pinned versions ask for. */
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
        if (origin.kind === 'go') lockModules.add(lockModuleDir(dir, origin.module, origin.version ?? component.version));
    // What Debian packages a program draws in is found out when it is pinned: the definition does not say it.
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
  const there = await Array.fromAsync(glob('go/**/go.mod', { cwd: dir }));
  return {
    bytes,
    licenses,
    lockModules: there
      .map((file) => join(dir, dirname(file)))
      .filter((folder) => !lockModules.has(folder))
      .toSorted(),
  };
}

/** Takes versions out of an extension's lock, and everything that nothing asks for then; gives the files that changed, and the folders that are gone. */
export async function pruneLock(loaded: LoadedExtension, versions: readonly string[]): Promise<{ written: string[]; removed: string[] }> {
  const { dir } = loaded;
  const file = join(dir, 'pins.json');
  const text = await readFile(file, 'utf8');
  const json = JSON.parse(text) as Record<string, { bytes: Record<string, unknown>; licenses: Record<string, unknown> }>;
  for (const version of versions) delete json[version];
  const pins = Object.fromEntries(Object.entries(loaded.pins).filter(([version]) => !versions.includes(version)));
  const unused = await findUnused({ ...loaded, pins });
  for (const { version, locator } of unused.bytes) delete json[version]?.bytes[locator];
  for (const { version, component } of unused.licenses) delete json[version]?.licenses[component];
  const after = `${JSON.stringify(json, undefined, 2)}\n`;
  if (after !== text) await writeAtomic(file, after);
  for (const folder of unused.lockModules) {
    await rm(folder, { recursive: true, force: true });
    // Folders above it that are empty now go too, up to the extension.
    for (let up = dirname(folder); up !== dir && up.startsWith(dir); up = dirname(up)) {
      const isEmpty = (await Array.fromAsync(glob('*', { cwd: up }))).length === 0;
      if (!isEmpty) break;
      await rm(up, { recursive: true });
    }
  }
  return { written: after === text ? [] : [file], removed: [...unused.lockModules] };
}
