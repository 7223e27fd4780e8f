import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { envOf, homeOf } from '../util/env.ts';
import { UserError } from '../util/errors.ts';
import { makeFolder, writeAtomic } from '../util/files.ts';

/** Tables of cargo's configuration for registries (doc.rust-lang.org/cargo/reference/config.html). */
const REGISTRY = new Set(['source', 'registry', 'registries', 'http', 'net', 'credential-alias', 'cache']);
/** Tables that change what is compiled, or how. */
const COMPILES = new Set(['build', 'profile', 'target', 'env', 'patch', 'paths', 'unstable', 'host', 'doc', 'resolver']);

/** Splits a configuration into its top-level tables: the first word of a header, or of a dotted key before the first header. */
function tablesOf(text: string): { name: string; lines: string[] }[] {
  const tables: { name: string; lines: string[] }[] = [];
  let isHeaded = false;
  for (const line of text.split('\n')) {
    const [, header] = /^\s*\[+\s*["']?([\w-]+)/.exec(line) ?? [];
    const [, key] = isHeaded ? [] : (/^\s*["']?([\w-]+)["']?\s*[.=]/.exec(line) ?? []);
    if (header !== undefined) isHeaded = true;
    const name = header ?? key;
    if (name === undefined) tables.at(-1)?.lines.push(line);
    else tables.push({ name, lines: [line] });
  }
  return tables;
}

/** The part of a configuration that is about registries. */
export function registrySettings(text: string): string {
  return tablesOf(text)
    .filter(({ name }) => REGISTRY.has(name))
    .flatMap(({ lines }) => lines)
    .join('\n');
}

/** The part of a configuration by which cargo finds crates that it has fetched: which registry replaces another. It has no tokens and no proxies. */
export function offlineSettings(text: string): string {
  return tablesOf(text)
    .filter(({ name }) => name === 'source')
    .flatMap(({ lines }) => lines)
    .join('\n');
}

/** The names of a configuration's tables that change what is compiled. */
export function compileSettings(text: string): string[] {
  return [...new Set(tablesOf(text).map(({ name }) => name))].filter((name) => COMPILES.has(name));
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
    const tables = compileSettings(above?.text ?? '');
    if (above === undefined || tables.length === 0) continue;
    throw new UserError(`[${tables.join('], [')}] of this file would change what is compiled: cargo reads it for every folder beside it`, {
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
