import { mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { openStore, type Store } from '@flatcar/core/engine';

/** Uses a store without results, in a temporary folder of another one. Downloads, modules and crates are checked by their digests and are shared. */
export async function withFreshStore<T>(store: Store, use: (fresh: Store) => Promise<T>): Promise<T> {
  return store.withTemp(async (temp) => {
    const root = join(temp, 'store');
    for (const shared of ['blobs', 'go/mod', 'cargo']) {
      await mkdir(join(store.root, shared), { recursive: true });
      await mkdir(dirname(join(root, shared)), { recursive: true });
      await symlink(join(store.root, shared), join(root, shared));
    }
    return use(openStore(root));
  });
}
