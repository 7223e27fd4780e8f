import { join } from 'node:path';
import { openStore, openTools, readTree, unpackImage, type Manifest, type Tree } from '@flatcar/core';
import { formatOfFile, knownImage } from './image.ts';
import { readable, table } from './terminal.ts';

interface Change {
  readonly what: 'added' | 'removed' | 'changed';
  readonly path: string;
  readonly before: number;
  readonly after: number;
}

/** What differs between two images. */
export interface Difference {
  readonly versions: readonly { component: string; before: string; after: string }[];
  readonly files: readonly Change[];
  readonly size: { readonly before: number; readonly after: number };
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
    return [{ what: a === undefined ? 'added' : b === undefined ? 'removed' : 'changed', path, before: a?.size ?? 0, after: b?.size ?? 0 }];
  });
  return {
    versions: components
      .map((component) => ({ component, before: old?.get(component) ?? '', after: now?.get(component) ?? '' }))
      .filter((one) => one.before !== one.after),
    files,
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

/** A difference for people. */
export function differenceText({ versions, files, size }: Difference): string {
  return [
    ...(versions.length === 0
      ? []
      : [table([['component', 'before', 'after'], ...versions.map((one) => [one.component, one.before, one.after])]), '']),
    files.length === 0
      ? 'the files are the same'
      : table([['', 'path', 'before', 'after'], ...files.map((one) => [one.what, one.path, readable(one.before), readable(one.after)])]),
    '',
    `image: ${readable(size.before)} before, ${readable(size.after)} after`,
  ].join('\n');
}
