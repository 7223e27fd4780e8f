import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import { join } from 'node:path';
import { openStore } from '@flatcar/core/engine';
import type { TestProject } from 'vitest/node';

/** What unit tests share with the user's store: all of it is pinned or compiled from what is, and the store checks it on use. */
const SHARED = [
  'blobs',
  ...[
    'tools',
    'debian',
    'npm-folder',
    'go-toolchain',
    'go-standard-library',
    'go-program',
    'go-tests',
    'toolchain-c',
    'toolchain-rust',
  ].map((kind) => `results/${kind}`),
];

/** Copies a tree by hard links; if that is not possible (another owner, another disk), by copies with the same times. */
function linkTree(from: string, to: string): void {
  const status = lstatSync(from);
  if (status.isDirectory()) {
    mkdirSync(to, { recursive: true });
    chmodSync(to, status.mode); // whatever the umask: the store compares modes
    for (const name of readdirSync(from)) linkTree(join(from, name), join(to, name));
  } else if (status.isSymbolicLink()) symlinkSync(readlinkSync(from), to);
  else {
    try {
      linkSync(from, to);
    } catch {
      copyFileSync(from, to);
      utimesSync(to, status.atime, status.mtime);
    }
  }
}

/** Adds the entries of another store that a store does not have: each appears whole, and a result's list after the result. */
export function shareStore(from: string, to: string): void {
  for (const kind of SHARED) {
    const names = existsSync(join(from, kind)) ? readdirSync(join(from, kind)).toSorted() : [];
    const entries = kind === 'blobs' ? names.flatMap((name) => readdirSync(join(from, kind, name)).map((blob) => join(name, blob))) : names;
    for (const entry of entries) {
      // `x.list` comes after `x`. A result without a list is not whole yet.
      const source = join(from, kind, entry);
      const target = join(to, kind, entry);
      if (existsSync(target) || (statSync(source).isDirectory() && !existsSync(`${source}.list`))) continue;
      mkdirSync(join(target, '..'), { recursive: true });
      const partial = `${target}.${process.pid}`;
      linkTree(source, partial);
      renameSync(partial, target);
    }
  }
}

/**
 * A store for the unit tests of this run, which begins with the downloads of the user's store. Afterwards the user's store gets what was
 * downloaded meanwhile, and nothing else.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const ready = Promise.withResolvers<void>();
  const over = Promise.withResolvers<void>();
  const user = openStore();
  // Its temporary folder: on the same disk, and removed with the next use if this process is killed.
  const used = user.withTemp(async (root) => {
    chmodSync(root, 0o755); // tests run its programs as other users
    shareStore(user.root, root);
    project.config.env['FLATCAR_EXT_CACHE'] = root;
    project.config.env['XDG_STATE_HOME'] = join(root, 'state');
    ready.resolve();
    await over.promise;
    shareStore(root, user.root);
  });
  used.catch(ready.reject);
  await ready.promise;
  return async () => {
    over.resolve();
    await used;
  };
}
