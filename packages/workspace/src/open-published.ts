import { openStore, type Report } from '@flatcar/core/engine';
import { NoTreeError, openTree, readPublished, type Index, type Published, type Tree } from '@flatcar/publish';
import { treeTrust, type KeyPlaces } from './given-keys.ts';

/** A published tree, and what it is verified with. */
export interface TreePlaces extends KeyPlaces {
  /** Folder, https:// or s3:// URL. */
  readonly tree: string;
  /** Accepts the root of a tree that was not read before. */
  readonly trustFirstUse?: boolean;
}

/** A published tree whose index was verified. */
export interface OpenedTree extends Published {
  readonly tree: Tree;
  readonly index: Index;
}

/** Opens a published tree for reading and verifies its index. Throws a UserError if nothing is published there, or if it is not verified. */
export async function openPublished(
  places: TreePlaces,
  { report, signal }: { readonly report?: Report; readonly signal?: AbortSignal } = {},
): Promise<OpenedTree> {
  const tree = openTree(places.tree, openStore(), { flag: '--tree', report, signal });
  const published = await readPublished(tree, await treeTrust(places));
  if (published.index === undefined) throw new NoTreeError(tree);
  return { ...published, tree, index: published.index };
}
