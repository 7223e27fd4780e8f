import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openCargo, parseJson, UserError } from '@flatcar/core/engine';
import * as v from 'valibot';
import type { UpstreamContext } from '../context.ts';
import type { Listed } from './tags.ts';

/** One entry of a registry's index (The Cargo Book, Registry Index); only newer entries have `pubtime`. */
const IndexEntry = v.object({ name: v.string(), vers: v.string(), yanked: v.boolean(), pubtime: v.optional(v.string()) });

/** Versions of a crate that were not yanked, from cargo's copy of an index: JSON entries between NULs (cargo::sources::registry::index::cache). */
export function indexedVersions(text: string, crate: string, where: string): Listed[] {
  return text
    .split('\0')
    .filter((part) => part.startsWith('{'))
    .map((part) => parseJson(IndexEntry, part, { what: `index of ${crate}`, where, next: 'check the registry in the settings of cargo' }))
    .filter((entry) => entry.name === crate && !entry.yanked)
    .map(({ vers, pubtime }) => ({ version: vers, date: pubtime }));
}

/**
 * Versions of a crate that were not yanked, from the registry that the user's cargo is configured for. Cargo has no command that lists them,
 * so this reads cargo's own copy of the index.
 */
export async function crateVersions(crate: string, { store, toolchains, signal }: UpstreamContext): Promise<Listed[]> {
  const { bin } = await toolchains.rust();
  return store.withTemp(async (home) => {
    const cargo = await openCargo(bin, home, { signal });
    await cargo.run(['info', '--registry', 'crates-io', crate]);
    const [index] = await Array.fromAsync(glob(`registry/index/*/.cache/**/${crate}`, { cwd: home }));
    if (index === undefined) throw new UserError(`cargo kept no index of ${crate}`, { where: home });
    return indexedVersions(await readFile(join(home, index), 'utf8'), crate, join(home, index));
  });
}
