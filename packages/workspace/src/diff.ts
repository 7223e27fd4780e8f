import { join } from 'node:path';
import { openStore, openTools, readTree, unpackImage, type Manifest, type Tree } from '@flatcar/core/engine';
import { formatOfFile, knownImage } from './image-file.ts';

interface Change {
  readonly what: 'added' | 'removed' | 'changed';
  readonly path: string;
  readonly before: number;
  readonly after: number;
  /** Type and permissions, where they differ: `file 755`. */
  readonly modes?: { readonly before: string; readonly after: string };
}

/** What differs between two images. */
export interface Difference {
  readonly versions: readonly { component: string; before: string; after: string }[];
  readonly files: readonly Change[];
  /** What the images need of a host, where it differs: `glibc` 2.34 and 2.38. */
  readonly requirements: readonly { readonly what: string; readonly before: string; readonly after: string }[];
  readonly size: { readonly before: number; readonly after: number };
}

/** What two images need of a host, hide of it, or cannot be merged with, where it differs. */
function requirements(before: Manifest, after: Manifest): Difference['requirements'] {
  const of = ({ needs, replaces, conflicts, requires }: Manifest): Record<string, string> => ({
    systemd: needs.systemd,
    glibc: needs.glibc ?? '',
    kernel: needs.kernel ?? '',
    libraries: needs.libraries.toSorted().join(' '),
    replaces: replaces.toSorted().join(' '),
    conflicts: conflicts.toSorted().join(' '),
    requires: requires.toSorted().join(' '),
  });
  const [was, is] = [of(before), of(after)];
  return Object.keys(was)
    .map((what) => ({ what, before: was[what] ?? '', after: is[what] ?? '' }))
    .filter((one) => one.before !== one.after);
}

function compare(before: { manifest: Manifest; tree: Tree }, after: { manifest: Manifest; tree: Tree }): Difference {
  const [old, now] = [before, after].map(({ manifest }) => new Map(manifest.components.map(({ name, version }) => [name, version])));
  const components = [...new Set([...(old?.keys() ?? []), ...(now?.keys() ?? [])])];
  const [was, is] = [before, after].map(
    ({ tree }) => new Map(tree.entries.filter(({ type }) => type !== 'dir').map((entry) => [entry.path, entry])),
  );
  const files = [...new Set([...(was?.keys() ?? []), ...(is?.keys() ?? [])])].toSorted().flatMap((path): Change[] => {
    const [a, b] = [was?.get(path), is?.get(path)];
    if (a !== undefined && b !== undefined && a.sha256 === b.sha256 && a.link === b.link && a.mode === b.mode) return [];
    const change = {
      what: a === undefined ? 'added' : b === undefined ? 'removed' : 'changed',
      path,
      before: a?.size ?? 0,
      after: b?.size ?? 0,
    } as const;
    const [old, now] = [a, b].map((entry) => (entry === undefined ? '' : `${entry.type} ${(entry.mode & 0o7777).toString(8)}`));
    return a === undefined || b === undefined || old === now ? [change] : [{ ...change, modes: { before: old ?? '', after: now ?? '' } }];
  });
  return {
    versions: components
      .map((component) => ({ component, before: old?.get(component) ?? '', after: now?.get(component) ?? '' }))
      .filter((one) => one.before !== one.after),
    files,
    requirements: requirements(before.manifest, after.manifest),
    size: { before: before.manifest.size, after: after.manifest.size },
  };
}

/** Unpacks both images and compares versions, files and sizes. */
export async function differenceOf(before: string, after: string): Promise<Difference> {
  const store = openStore();
  const tools = openTools(store);
  return store.withTemp(async (temp) => {
    const read = async (file: string, name: string): Promise<{ manifest: Manifest; tree: Tree }> => {
      const { manifest } = await knownImage(file);
      const dir = join(temp, name);
      await unpackImage(tools, file, await formatOfFile(file), manifest.architecture, dir);
      return { manifest, tree: await readTree(dir, new Map()) };
    };
    return compare(await read(before, 'before'), await read(after, 'after'));
  });
}
