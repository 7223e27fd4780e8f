import { mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { openStore, type Store } from '@flatcar/core/engine';

/**
 * Calls `use` with a store without results, in a temporary folder of another store. The two share downloads, modules and crates, which are
 * verified by digest, and the kinds of results in `results`, such as unpacked tools.
 */
export async function withFreshStore<T>(
  store: Store,
  use: (fresh: Store) => Promise<T>,
  { results = [] }: { readonly results?: readonly string[] } = {},
): Promise<T> {
  return store.withTemp(async (temp) => {
    const root = join(temp, 'store');
    for (const shared of ['blobs', 'go/mod', 'cargo', ...results.map((kind) => `results/${kind}`)]) {
      await mkdir(join(store.root, shared), { recursive: true });
      await mkdir(dirname(join(root, shared)), { recursive: true });
      await symlink(join(store.root, shared), join(root, shared));
    }
    return use(openStore(root));
  });
}
