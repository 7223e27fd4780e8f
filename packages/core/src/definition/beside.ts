import { join } from 'node:path';
import { ARCHES } from '../model/arch.ts';
import { allComponents, folderOf } from './components.ts';
import type { DebianOrigin, PinnedComponent } from './types.ts';
import { loadExtension } from './load.ts';
import { newestFirst } from '../model/versions.ts';
import { walk } from '../util/walk.ts';

const isGlob = (text: string): boolean => /[*?[{]/.test(text);

/** Programs of packages come to usr/bin, under their own names or others. */
const programsOf = ({ programs, rename = {} }: DebianOrigin): string[] =>
  programs.filter((name) => !isGlob(name)).map((name) => `usr/bin/${rename[name] ?? name}`);

/** Paths in the image that a component brings, as far as its definition and files/ say it. */
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
 * Paths (absolute) that other extensions bring, as far as their definitions and files/ say it: programs, units and configuration. Nothing is built.
 * `folder` holds the extensions; what is not there brings nothing.
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
