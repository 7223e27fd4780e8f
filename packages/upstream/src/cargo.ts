import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openCargo, UserError } from '@flatcar/core';
import type { UpstreamContext } from './context.ts';

/** One line of a registry's index (The Cargo Book, Registry Index). */
interface IndexEntry {
  readonly name: string;
  readonly vers: string;
  readonly yanked: boolean;
  /** Of newer entries. */
  readonly pubtime?: string;
}

/**
 * A crate's versions that were not yanked, from the registry that the user's cargo is configured for. Cargo has no command for that,
 * so its own copy of the index is read: entries of JSON between NULs (cargo::sources::registry::index::cache).
 */
export async function crateVersions(
  crate: string,
  { store, toolchains, signal }: UpstreamContext,
): Promise<{ version: string; date?: string }[]> {
  const { bin } = await toolchains.rust();
  return store.withTemp(async (home) => {
    const cargo = await openCargo(bin, home, signal === undefined ? {} : { signal });
    await cargo.run(['info', '--registry', 'crates-io', crate]);
    const [index] = await Array.fromAsync(glob(`registry/index/*/.cache/**/${crate}`, { cwd: home }));
    if (index === undefined) throw new UserError(`cargo kept no index of ${crate}`, { where: home });
    const entries = (await readFile(join(home, index), 'utf8'))
      .split('\0')
      .filter((part) => part.startsWith('{'))
      .map((part) => JSON.parse(part) as IndexEntry);
    return entries
      .filter((entry) => entry.name === crate && !entry.yanked)
      .map(({ vers, pubtime }) => ({ version: vers, ...(pubtime === undefined ? {} : { date: pubtime }) }));
  });
}
