import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import * as v from 'valibot';
import { readSection } from './elf.ts';
import type { EmbeddedModule, Tree } from '../model/payload.ts';

/** The build info that the Go linker writes into a program (runtime/debug.BuildInfo). */
export interface GoBuildInfo {
  readonly goVersion: string;
  /** The main module and all compiled-in modules, with replaces applied. */
  readonly modules: readonly { readonly path: string; readonly version: string }[];
  readonly settings: Readonly<Record<string, string>>;
}

// debug/buildinfo: 14 bytes of magic, pointer size, flags (2: strings inline), then at 32 two length-prefixed strings.
const MAGIC = Buffer.from('\xff Go buildinf:', 'latin1');
const INLINE = 2;
const STRINGS = 32;
/** The module text is between two marks of 16 bytes. */
const MARK = 16;

function inlineString(bytes: Buffer, at: number): { text: string; next: number } | undefined {
  let length = 0;
  for (let shift = 0; shift < 35; shift += 7) {
    const byte = bytes[at];
    if (byte === undefined) return undefined;
    at += 1;
    length += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return at + length > bytes.length ? undefined : { text: bytes.toString('utf8', at, at + length), next: at + length };
  }
  return undefined;
}

/** Go's build info of a program; undefined for a program that was not built by Go 1.18 or newer. */
export async function readGoBuildInfo(path: string): Promise<GoBuildInfo | undefined> {
  const bytes = await readSection(path, '.go.buildinfo');
  if (bytes === undefined || !bytes.subarray(0, MAGIC.length).equals(MAGIC) || ((bytes[15] ?? 0) & INLINE) === 0) return undefined;
  const version = inlineString(bytes, STRINGS);
  const info = version === undefined ? undefined : inlineString(bytes, version.next);
  if (version === undefined || info === undefined) return undefined;
  const modules: { path: string; version: string }[] = [];
  const settings = Object.create(null) as Record<string, string>; // a key may be called __proto__
  for (const line of info.text.slice(MARK, -MARK).split('\n')) {
    const [kind, first = '', second = ''] = line.split('\t');
    if (kind === 'mod' || kind === 'dep') modules.push({ path: first, version: second });
    else if (kind === '=>' && modules.length > 0) modules[modules.length - 1] = { path: first, version: second };
    else if (kind === 'build') settings[first.split('=')[0] ?? ''] = first.slice(first.indexOf('=') + 1);
  }
  return { goVersion: version.text, modules, settings };
}

const AuditableCrates = v.object({
  packages: v.array(v.object({ name: v.string(), version: v.string(), source: v.string(), kind: v.optional(v.string()) })),
});

/** Crates that `cargo auditable` wrote into a program: section `.dep-v0`, JSON packed with zlib (github.com/rust-secure-code/cargo-auditable). */
export async function readAuditableCrates(path: string): Promise<{ name: string; version: string }[]> {
  const bytes = await readSection(path, '.dep-v0');
  if (bytes === undefined) return [];
  try {
    const parsed = v.safeParse(AuditableCrates, JSON.parse(inflateSync(bytes, { maxOutputLength: 16 << 20 }).toString()));
    const crates = parsed.success ? parsed.output.packages : [];
    // Crates of build scripts are not in the program, and nobody can look up a crate without a registry.
    return crates.filter(({ kind, source }) => kind !== 'build' && source === 'crates.io');
  } catch {
    return []; // damaged, or another program's section
  }
}

/** All Go modules inside a program; the lock module that it may have been built from (`wrapper`) does not count. */
async function goModulesIn(path: string): Promise<{ name: string; version: string }[]> {
  const info = await readGoBuildInfo(path);
  if (info === undefined) return [];
  const stdlib = { name: 'stdlib', version: info.goVersion.replace(/^go/, '').split(' ')[0] ?? '' };
  return [stdlib, ...info.modules.map(({ path: name, version }) => ({ name, version }))].filter(
    ({ name, version }) => name !== 'wrapper' && version !== '' && version !== '(devel)',
  );
}

/** All Go modules and Rust crates that are recorded in the programs of a tree, for the SBOM. */
export async function embeddedModules(tree: Tree): Promise<EmbeddedModule[]> {
  const found = new Map<string, { type: string; name: string; version: string; paths: string[] }>();
  for (const { path, type } of tree.entries) {
    if (type !== 'file') continue;
    const file = join(tree.dir, path);
    const all = [
      ...(await goModulesIn(file)).map((one) => ({ ...one, type: 'golang' })),
      ...(await readAuditableCrates(file)).map((one) => ({ ...one, type: 'cargo' })),
    ];
    for (const { type: its, name, version } of all) {
      const key = `${its} ${name}@${version}`;
      const entry = found.get(key) ?? { type: its, name, version, paths: [] };
      entry.paths.push(path);
      found.set(key, entry);
    }
  }
  return [...found.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, module]) => module);
}
