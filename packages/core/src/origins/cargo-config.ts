import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { stringify } from 'smol-toml';
import { envOf, homeOf } from '../util/env.ts';
import { UserError } from '../util/errors.ts';
import { makeFolder, writeAtomic } from '../util/files.ts';
import { parseToml } from '../util/toml.ts';

/** Tables of cargo's configuration for registries (doc.rust-lang.org/cargo/reference/config.html). */
const REGISTRY = new Set(['source', 'registry', 'registries', 'http', 'net', 'credential-alias', 'cache']);
/** Tables that change what is compiled, or how. */
const COMPILES = new Set(['build', 'profile', 'target', 'env', 'patch', 'paths', 'unstable', 'host', 'doc', 'resolver']);

/** Those top-level tables of a configuration whose names are `wanted`, as a configuration. Throws a UserError if it is not TOML. */
function tables(text: string, where: string, wanted: (name: string) => boolean): string {
  const all = parseToml(text, { what: 'configuration of cargo', where, next: 'correct the file; cargo would refuse it, too' });
  return stringify(Object.fromEntries(Object.entries(all).filter(([name]) => wanted(name))));
}

/** The part of a configuration that is about registries. */
export const registrySettings = (text: string, where = 'config.toml'): string => tables(text, where, (name) => REGISTRY.has(name));

/** The part of a configuration by which cargo finds crates that it has fetched: which registry replaces another. It has no tokens and no proxies. */
export const offlineSettings = (text: string, where = 'config.toml'): string => tables(text, where, (name) => name === 'source');

/** The names of a configuration's tables that change what is compiled. */
export function compileSettings(text: string, where = 'config.toml'): string[] {
  const all = parseToml(text, { what: 'configuration of cargo', where, next: 'correct the file; cargo would refuse it, too' });
  return Object.keys(all).filter((name) => COMPILES.has(name));
}

async function configIn(folder: string): Promise<{ file: string; text: string } | undefined> {
  for (const name of ['config', 'config.toml']) {
    const file = join(folder, name);
    const text = await readFile(file, 'utf8').catch(() => undefined);
    if (text !== undefined) return { file, text };
  }
  return undefined;
}

/** The text of the user's own configuration; empty when there is none. */
export async function userConfig(): Promise<string> {
  return (await configIn(envOf('CARGO_HOME') ?? join(homeOf() ?? '/', '.cargo')))?.text ?? '';
}

/**
 * Arguments by which cargo reaches the registry that the user's cargo is configured for; the rest of the user's configuration is ignored.
 * Cargo also reads the configuration in every folder above its own. Throws a UserError if one of them would change bytes.
 */
export async function userRegistry(home: string): Promise<string[]> {
  for (let at = home; at !== dirname(at); at = dirname(at)) {
    const above = await configIn(join(dirname(at), '.cargo'));
    const found = above === undefined ? [] : compileSettings(above.text, above.file);
    if (above === undefined || found.length === 0) continue;
    throw new UserError(`[${found.join('], [')}] of this file would change what is compiled: cargo reads it for every folder beside it`, {
      where: above.file,
      next: 'move these tables elsewhere, or set FLATCAR_EXT_CACHE to a folder that is not located below it',
    });
  }
  const settings = registrySettings(await userConfig());
  if (settings.trim() === '') return [];
  await makeFolder(home);
  const file = join(home, 'registry.toml');
  await writeAtomic(file, `${settings}\n`);
  return ['--config', file];
}
