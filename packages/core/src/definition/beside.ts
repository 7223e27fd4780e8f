import { join } from 'node:path';
import { ARCHES } from '../model/arch.ts';
import { allComponents, folderOf } from './components.ts';
import type { DebianOrigin, PinnedComponent } from './types.ts';
import { loadExtension } from './load.ts';
import { newestFirst } from '../model/versions.ts';
import { walk } from '../util/walk.ts';

const isGlob = (text: string): boolean => /[*?[{]/.test(text);

/** Programs of packages are installed in usr/bin, under their own or other names. */
const programsOf = ({ programs, rename = {} }: DebianOrigin): string[] =>
  programs.filter((name) => !isGlob(name)).map((name) => `usr/bin/${rename[name] ?? name}`);

/** The paths of a component in the image that its definition and files/ list. */
export async function knownPaths({ component, dir }: PinnedComponent): Promise<string[]> {
  const places = component.install
    .filter(({ from }) => !isGlob(from))
    .map(({ from, to }) => (to.endsWith('/') ? to + (from.split('/').at(-1) ?? '') : to));
  const origins = component.origins.map(async (origin): Promise<string[]> => {
    if (origin.kind === 'debian') return programsOf(origin);
    if (origin.kind !== 'files') return [];
    const folders = await Promise.all(ARCHES.map((arch) => walk(join(dir, folderOf(origin, arch))).catch(() => [])));
    return folders.flat().map(({ path }) => path);
  });
  return [...places, ...(await Promise.all(origins)).flat()];
}

/**
 * Absolute paths in other extensions that their definitions and files/ list: programs, units and configuration. Builds nothing. `folder` contains
 * the extensions.
 */
export async function pathsBeside(folder: string, names: readonly string[]): Promise<ReadonlySet<string>> {
  const found = await Promise.all(
    names.map(async (name): Promise<string[]> => {
      const loaded = await loadExtension(join(folder, name));
      const [version] = newestFirst(Object.keys(loaded.pins));
      if (version === undefined) return [];
      const { components, own } = await allComponents(loaded, version);
      return [...loaded.extension.requiredPaths, ...(await Promise.all([...components, ...own].map(knownPaths))).flat()];
    }),
  );
  return new Set(found.flat().map((path) => `/${path}`));
}
