import { chmod, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Arch, ARCHES, archWords, hostArch } from '../model/arch.ts';
import { openArchive, type FetchedPackage } from '../debian/archive.ts';
import type { DebianPackage } from '../debian/packages.ts';
import { readElf } from '../inspect/elf.ts';
import { digestOf } from '../util/digest.ts';
import type { Store } from '../store/store.ts';
import { openTools } from './tools.ts';
import type { Report } from '../util/events.ts';
import type { ToolRecord } from '../model/payload.ts';
import { unpackPackage } from '../store/unpack.ts';
import { walk } from '../util/walk.ts';

/** Raised when the same packages are to give another toolchain. */
export const TOOLCHAIN_FORMAT: number = 1;

/** Format numbers in the key of what a toolchain compiles; the toolchain's first is left out, so that what was compiled before it was in keys is found. */
export const compiledFormat = (number: number): object => (TOOLCHAIN_FORMAT === 1 ? { number } : { number, toolchain: TOOLCHAIN_FORMAT });

/** data/toolchains.json: compilers for both kinds of host and target as Debian packages. Written by scripts/pin/toolchains.ts. */
export interface ToolchainPins {
  readonly suite: string;
  /** Timestamp at which the snapshot archive has all of these. */
  readonly snapshot: string;
  /** By the architecture that compiles: packages of gcc and binutils by target, and of Rust. */
  readonly hosts: Readonly<Record<Arch, { readonly cc: Readonly<Record<Arch, readonly string[]>>; readonly rust: readonly string[] }>>;
  /** By target: packages of headers and libraries, of the target's architecture. */
  readonly sysroots: Readonly<Record<Arch, readonly string[]>>;
  /** The package of Rust's standard library. */
  readonly rustStd: string;
  readonly packages: Readonly<Record<Arch, Readonly<Record<string, Omit<DebianPackage, 'name'> & { readonly suite?: string }>>>>;
}

/** A C compiler for one target, with its headers and static libraries. */
export interface CToolchain {
  /** Folder with `cc`, `ar`, `ranlib`, `strip` and so on: the compiler knows its sysroot. */
  readonly bin: string;
  /** The target's headers and libraries: `usr/include`, `usr/lib/<triplet>`. */
  readonly sysroot: string;
  readonly records: readonly ToolRecord[];
}

/** Rust, with its standard library for all targets. */
export interface RustToolchain {
  /** Folder with `cargo` and `rustc`. */
  readonly bin: string;
  readonly records: readonly ToolRecord[];
}

/** Compilers out of the store. */
export interface Toolchains {
  c(target: Arch): Promise<CToolchain>;
  /** For all targets. */
  rust(): Promise<RustToolchain>;
}

let read: Promise<ToolchainPins> | undefined;
const readPins = (): Promise<ToolchainPins> =>
  (read ??= readFile(new URL('data/toolchains.json', import.meta.url), 'utf8').then((text) => JSON.parse(text) as ToolchainPins));

type PinnedPackage = DebianPackage & { readonly suite?: string };

function pinned(pins: ToolchainPins, names: readonly string[], arch: Arch): PinnedPackage[] {
  return names.map((name) => {
    const pin = pins.packages[arch][name];
    if (pin === undefined) throw new Error(`data/toolchains.json has no pin of ${name} for ${arch}`);
    return { name, ...pin };
  });
}

/** The packages of the C compiler, and those of the headers and libraries for what it makes. */
function cPackages(pins: ToolchainPins, host: Arch, target: Arch): { compiler: PinnedPackage[]; libraries: PinnedPackage[] } {
  return { compiler: pinned(pins, pins.hosts[host].cc[target], host), libraries: pinned(pins, pins.sysroots[target], target) };
}

/** The packages of Rust, and of its standard library for other targets, with their architectures. */
function rustPackages(pins: ToolchainPins, host: Arch): { arch: Arch; packages: PinnedPackage[] }[] {
  const own = { arch: host, packages: pinned(pins, [...pins.hosts[host].rust, pins.rustStd], host) };
  return [own, ...ARCHES.filter((arch) => arch !== host).map((arch) => ({ arch, packages: pinned(pins, [pins.rustStd], arch) }))];
}

const pinnedRecord = ({ name, version, sha256 }: PinnedPackage): ToolRecord => ({ name, version, sha256, status: 'pinned' });

/** The C compiler as it is pinned for a kind of host; see pinnedToolRecord. */
export async function pinnedCRecord(host: Arch, target: Arch): Promise<ToolRecord[]> {
  const { compiler, libraries } = cPackages(await readPins(), host, target);
  return [...compiler, ...libraries].map(pinnedRecord);
}

/** Rust as it is pinned for a kind of host. */
export async function pinnedRustRecord(host: Arch): Promise<ToolRecord[]> {
  return rustPackages(await readPins(), host).flatMap(({ packages }) => packages.map(pinnedRecord));
}

/**
 * A program starts through its own loader and libraries, whatever the host's C library is. Unlike the tools, a compiler is
 * many programs that start each other by path, so each gets a script in its place. Symbolic links come from other folders.
 */
function startScript(up: string, triplet: string, loader: string): string {
  return `#!/bin/sh
self=$0
[ -h "$self" ] && self=$(readlink -f "$self")
root=\${self%/*}/${up}
exec "$root/usr/lib/${triplet}/${loader}" --inhibit-cache --library-path "$root/usr/lib/${triplet}" --argv0 "$self" "$self.elf" "$@"
`;
}

/** Replaces every dynamic program below a folder by a script that starts it. */
async function wrapPrograms(root: string, host: Arch): Promise<void> {
  const { triplet, loader } = archWords(host);
  const loaderName = loader.split('/').at(-1) ?? '';
  for (const { path, full: file, type } of await walk(join(root, 'usr'))) {
    if (type !== 'file' || !/^(?:s?bin\/[^/]+$|libexec\/gcc[^/]*\/)/.test(path)) continue;
    if ((await readElf(file))?.interpreter === undefined) continue;
    const up = file
      .slice(root.length + 1)
      .split('/')
      .slice(1)
      .map(() => '..')
      .join('/');
    await rename(file, `${file}.elf`);
    await writeProgram(file, startScript(up, triplet, loaderName));
  }
}

async function writeProgram(file: string, text: string): Promise<void> {
  await writeFile(file, text);
  await chmod(file, 0o755);
}

/** Opens the toolchains of this host; nothing is fetched before it is asked for. */
export function openToolchains(store: Store, report: Report = () => undefined): Toolchains {
  const host = hostArch();
  const archive = openArchive(store, report);
  const tools = openTools(store, report);
  const unpackAll = async (fetched: readonly FetchedPackage[], dest: string): Promise<void> => {
    for (const { file } of fetched) await unpackPackage(file, dest, { decompressor: (kind) => tools.command(kind) });
  };

  async function fetchAll(packages: readonly PinnedPackage[], arch: Arch): Promise<FetchedPackage[]> {
    const pins = await readPins();
    return Promise.all(packages.map(({ suite = pins.suite, ...one }) => archive.fetch(one, { suite, snapshot: pins.snapshot, arch })));
  }
  const recordsOf = (fetched: readonly FetchedPackage[]): ToolRecord[] =>
    fetched.map(({ package: { name, version, sha256 }, status }) => ({ name, version, sha256, status }));

  async function c(target: Arch): Promise<CToolchain> {
    const packages = cPackages(await readPins(), host, target);
    const { triplet } = archWords(target);
    const compiler = await fetchAll(packages.compiler, host);
    const libraries = await fetchAll(packages.libraries, target);
    const records = recordsOf([...compiler, ...libraries]);
    const key = digestOf({ number: TOOLCHAIN_FORMAT, host, target, packages: records.map(({ sha256 }) => sha256) });
    const { dir } = await store.result('toolchain-c', key, async (fresh) => {
      report({ type: 'step', text: `unpacking the C compiler for ${target}` });
      await unpackAll(compiler, fresh);
      await wrapPrograms(fresh, host);
      const sysroot = join(fresh, 'sysroot');
      await unpackAll(libraries, sysroot);
      // Linker scripts name /lib; packages of a merged /usr bring no link for it.
      for (const name of ['lib', 'lib64']) await symlink(`usr/${name}`, join(sysroot, name)).catch(() => undefined);
      const bin = join(fresh, 'bin');
      await mkdir(bin);
      const script = (name: string, body: string): Promise<void> => writeProgram(join(bin, name), `#!/bin/sh\nhere=\${0%/*}\n${body}\n`);
      for (const name of ['as', 'ld', 'ar', 'nm', 'objcopy', 'objdump', 'ranlib', 'readelf', 'strip'])
        await script(name, `exec "$here/../usr/bin/${triplet}-${name}" "$@"`);
      await script('cc', `exec "$here/../usr/bin/${triplet}-gcc-14" --sysroot="$here/../sysroot" -B"$here" "$@"`);
      await script('make', 'exec "$here/../usr/bin/make" "$@"');
      await script(
        'pkg-config',
        [
          `export PKG_CONFIG_LIBDIR="$here/../sysroot/usr/lib/${triplet}/pkgconfig:$here/../sysroot/usr/share/pkgconfig"`,
          'export PKG_CONFIG_SYSROOT_DIR="$here/../sysroot"',
          'exec "$here/../usr/bin/pkgconf" --static "$@"',
        ].join('\n'),
      );
      // Build scripts and macros run while compiling, on the libraries that they are linked with and not on this host's.
      const { loader } = archWords(target);
      await script(
        'cc-to-run-here',
        [
          'case " $* " in *" -static"*) exec "$here/cc" "$@" ;; esac',
          'sysroot=$(cd "$here/../sysroot" && pwd)',
          `exec "$here/cc" "-Wl,--dynamic-linker=$sysroot/${loader}" "-Wl,-rpath,$sysroot/usr/lib/${triplet}" "$@"`,
        ].join('\n'),
      );
    });
    return { bin: join(dir, 'bin'), sysroot: join(dir, 'sysroot'), records };
  }

  async function rust(): Promise<RustToolchain> {
    const fetched = (await Promise.all(rustPackages(await readPins(), host).map(({ packages, arch }) => fetchAll(packages, arch)))).flat();
    const records = recordsOf(fetched);
    const key = digestOf({ number: TOOLCHAIN_FORMAT, host, packages: records.map(({ sha256 }) => sha256) });
    const { dir } = await store.result('toolchain-rust', key, async (fresh) => {
      report({ type: 'step', text: 'unpacking the Rust compiler' });
      await unpackAll(fetched, fresh);
      await wrapPrograms(fresh, host);
    });
    return { bin: join(dir, 'usr/bin'), records };
  }

  return { c, rust };
}
