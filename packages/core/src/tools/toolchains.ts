import { chmod, mkdir, rename, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Arch, ARCHES, archWords, hostArch } from '../model/arch.ts';
import { openArchive, type Archive, type FetchedPackage } from '../debian/archive.ts';
import type { DebianPackage } from '../debian/packages.ts';
import { readElf } from '../inspect/elf.ts';
import { digestOf } from '../util/digest.ts';
import type { Store } from '../store/store.ts';
import { readToolchainPins, type ToolchainPins } from './pins.ts';
import { openTools, type Tools } from './tools.ts';
import type { Report } from '../util/events.ts';
import type { ToolRecord } from '../model/payload.ts';
import { unpackPackage } from '../store/unpack.ts';
import { walk } from '../util/walk.ts';

/** Raised when the same packages must give another toolchain. */
export const TOOLCHAIN_FORMAT: number = 1;

/** Format numbers in the key of a compiled program; the first format of toolchains is left out, so that earlier keys stay valid. */
export const compiledFormat = (number: number): object => (TOOLCHAIN_FORMAT === 1 ? { number } : { number, toolchain: TOOLCHAIN_FORMAT });

/** A C compiler for one target, with its headers and static libraries. */
export interface CToolchain {
  /** Folder with `cc`, `ar`, `ranlib`, `strip` and so on; the compiler uses its sysroot. */
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

/** Compilers in the store. */
export interface Toolchains {
  c(target: Arch): Promise<CToolchain>;
  /** For all targets. */
  rust(): Promise<RustToolchain>;
}

type PinnedPackage = DebianPackage & { readonly suite?: string };

function pinned(pins: ToolchainPins, names: readonly string[], arch: Arch): PinnedPackage[] {
  return names.map((name) => {
    const pin = pins.packages[arch][name];
    if (pin === undefined) throw new Error(`data/toolchains.json has no pin of ${name} for ${arch}`);
    return { name, ...pin };
  });
}

/** The packages of the C compiler, and those of the target's headers and libraries. */
function cPackages(pins: ToolchainPins, host: Arch, target: Arch): { compiler: PinnedPackage[]; libraries: PinnedPackage[] } {
  return { compiler: pinned(pins, pins.hosts[host].cc[target], host), libraries: pinned(pins, pins.sysroots[target], target) };
}

/** The packages of Rust, and of its standard library for other targets, with their architectures. */
function rustPackages(pins: ToolchainPins, host: Arch): { arch: Arch; packages: PinnedPackage[] }[] {
  const own = { arch: host, packages: pinned(pins, [...pins.hosts[host].rust, pins.rustStd], host) };
  return [own, ...ARCHES.filter((arch) => arch !== host).map((arch) => ({ arch, packages: pinned(pins, [pins.rustStd], arch) }))];
}

const pinnedRecord = ({ name, version, sha256 }: PinnedPackage): ToolRecord => ({ name, version, sha256, status: 'pinned' });

/** The C compiler as it is pinned for a host architecture; see pinnedToolRecord. */
export async function pinnedCRecord(host: Arch, target: Arch): Promise<ToolRecord[]> {
  const { compiler, libraries } = cPackages(await readToolchainPins(), host, target);
  return [...compiler, ...libraries].map(pinnedRecord);
}

/** Rust as it is pinned for a host architecture. */
export async function pinnedRustRecord(host: Arch): Promise<ToolRecord[]> {
  return rustPackages(await readToolchainPins(), host).flatMap(({ packages }) => packages.map(pinnedRecord));
}

/**
 * The script that starts a program through its own loader and libraries, whatever the host's C library is. Unlike a tool, a compiler consists of
 * many programs that start each other by path, so each is replaced by a script. Symbolic links in other folders lead to the scripts.
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
  const loaderName = basename(loader);
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

/** Programs of binutils that build systems start by these names. */
const BINUTILS = ['as', 'ld', 'ar', 'nm', 'objcopy', 'objdump', 'ranlib', 'readelf', 'strip'];

/** Writes the folder `bin` of a C toolchain: scripts by the usual names, which pass the sysroot to the compiler. */
async function writeCommands(root: string, target: Arch): Promise<void> {
  const { triplet, loader } = archWords(target);
  const bin = join(root, 'bin');
  await mkdir(bin);
  const script = (name: string, body: string): Promise<void> => writeProgram(join(bin, name), `#!/bin/sh\nhere=\${0%/*}\n${body}\n`);
  for (const name of BINUTILS) await script(name, `exec "$here/../usr/bin/${triplet}-${name}" "$@"`);
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
  await script(
    'cc-to-run-here',
    [
      'case " $* " in *" -static"*) exec "$here/cc" "$@" ;; esac',
      'sysroot=$(cd "$here/../sysroot" && pwd)',
      `exec "$here/cc" "-Wl,--dynamic-linker=$sysroot/${loader}" "-Wl,-rpath,$sysroot/usr/lib/${triplet}" "$@"`,
    ].join('\n'),
  );
}

class PinnedToolchains implements Toolchains {
  private readonly host = hostArch();
  private readonly store: Store;
  private readonly report: Report;
  private readonly archive: Archive;
  private readonly tools: Tools;

  constructor(store: Store, report: Report) {
    this.store = store;
    this.report = report;
    this.archive = openArchive(store, report);
    this.tools = openTools(store, report);
  }

  async c(target: Arch): Promise<CToolchain> {
    const packages = cPackages(await readToolchainPins(), this.host, target);
    const compiler = await this.fetchAll(packages.compiler, this.host);
    const libraries = await this.fetchAll(packages.libraries, target);
    const records = recordsOf([...compiler, ...libraries]);
    const key = digestOf({ number: TOOLCHAIN_FORMAT, host: this.host, target, packages: records.map(({ sha256 }) => sha256) });
    const { dir } = await this.store.result('toolchain-c', key, async (fresh) => {
      this.report({ type: 'step', text: `unpacking the C compiler for ${target}` });
      await this.unpackAll(compiler, fresh);
      await wrapPrograms(fresh, this.host);
      const sysroot = join(fresh, 'sysroot');
      await this.unpackAll(libraries, sysroot);
      // Linker scripts name /lib; packages of a merged /usr contain no link for it.
      for (const name of ['lib', 'lib64']) await symlink(`usr/${name}`, join(sysroot, name)).catch(() => undefined);
      await writeCommands(fresh, target);
    });
    return { bin: join(dir, 'bin'), sysroot: join(dir, 'sysroot'), records };
  }

  async rust(): Promise<RustToolchain> {
    const packages = rustPackages(await readToolchainPins(), this.host);
    const fetched = (await Promise.all(packages.map((one) => this.fetchAll(one.packages, one.arch)))).flat();
    const records = recordsOf(fetched);
    const key = digestOf({ number: TOOLCHAIN_FORMAT, host: this.host, packages: records.map(({ sha256 }) => sha256) });
    const { dir } = await this.store.result('toolchain-rust', key, async (fresh) => {
      this.report({ type: 'step', text: 'unpacking the Rust compiler' });
      await this.unpackAll(fetched, fresh);
      await wrapPrograms(fresh, this.host);
    });
    return { bin: join(dir, 'usr/bin'), records };
  }

  private async fetchAll(packages: readonly PinnedPackage[], arch: Arch): Promise<FetchedPackage[]> {
    const pins = await readToolchainPins();
    return Promise.all(packages.map(({ suite = pins.suite, ...one }) => this.archive.fetch(one, { suite, snapshot: pins.snapshot, arch })));
  }

  private async unpackAll(fetched: readonly FetchedPackage[], dest: string): Promise<void> {
    for (const { file } of fetched) await unpackPackage(file, dest, { decompressor: (kind) => this.tools.command(kind) });
  }
}

const recordsOf = (fetched: readonly FetchedPackage[]): ToolRecord[] =>
  fetched.map(({ package: { name, version, sha256 }, status }) => ({ name, version, sha256, status }));

/** Opens the toolchains of this host; nothing is fetched before it is needed. */
export function openToolchains(store: Store, report: Report = () => undefined): Toolchains {
  return new PinnedToolchains(store, report);
}
