import { mapParallel, type Arch } from '@flatcar/core/engine';
import { isSelected, selectedNames, type ExtensionIndex } from '@flatcar/publish';
import type { OpenedTree } from '../open-published.ts';

/** Which parts of a tree to show; all by default. */
export interface ShowFilter {
  readonly names: readonly string[];
  /** `portable` and release numbers. */
  readonly targets?: readonly string[];
  readonly arches?: readonly Arch[];
}

/** What is published: the indexes of extensions, with the selected images. */
export interface ShownTree {
  readonly where: string;
  readonly serial: number;
  readonly baseUrl: string;
  readonly extensions: readonly ExtensionIndex[];
}

/** Reads what a tree lists of the named extensions (all without names). Versions without a selected image are left out. */
export async function showPublished(opened: OpenedTree, { names, targets, arches }: ShowFilter): Promise<ShownTree> {
  const { tree, index } = opened;
  const filter = { extensions: names.length === 0 ? undefined : [...new Set(names)], targets, arches };
  const isFiltered = targets !== undefined || arches !== undefined;
  const read = await mapParallel(selectedNames(filter, index, tree.where), (name) => opened.extension(name));
  const extensions = read.flatMap((one): ExtensionIndex[] => {
    if (one === undefined) return [];
    if (!isFiltered) return [one];
    const versions = one.versions.map((version) => ({ ...version, images: version.images.filter((image) => isSelected(filter, image)) }));
    return [{ ...one, versions: versions.filter(({ images }) => images.length > 0) }];
  });
  return { where: tree.where, serial: index.serial, baseUrl: index.baseUrl, extensions };
}
