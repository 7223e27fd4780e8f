import { copyFile, glob, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import * as v from 'valibot';
import { type Arch, archWords, hostArch } from '../model/arch.ts';
import { messageOf, UserError } from '../util/errors.ts';
import { exec, networkEnv, type ExecOptions } from '../util/exec.ts';
import type { CargoOrigin, Component } from '../definition/types.ts';
import { UnreachableError } from '../http/errors.ts';
import { hashFile, makeFolder } from '../util/files.ts';
import { parseJson } from '../util/json.ts';
import { digestOf } from '../util/digest.ts';
import type { Store } from '../store/store.ts';
import { compiledFormat, TOOLCHAIN_FORMAT, type CToolchain, type RustToolchain } from '../tools/toolchains.ts';
import type { Tools } from '../tools/tools.ts';
import { readTree } from '../image/tree.ts';
import type { Material, TreeEntry } from '../model/payload.ts';
import { unpack } from '../store/unpack.ts';
import { copyTree } from '../util/walk.ts';
import { isolation, takeFile } from '../tools/sandbox.ts';
import { offlineSettings, userConfig, userRegistry } from './cargo-config.ts';
import { lockedCrates } from './cargo-lock.ts';
import {
  BUILD_AGAIN,
  compileOnce,
  OriginPackageSchema,
  pinnedBytes,
  type DescribeContext,
  type OriginContext,
  type OriginDescription,
  type OriginPackage,
  type OriginResult,
} from './origin.ts';

/** Raised when the same inputs are to give other bytes. */
const BUILD_FORMAT = 1;

/** Raised when the list of crates of the same program is to say something else. */
const RECORD_FORMAT = 1;

const featureFlags = (features: readonly string[] | undefined, defaults: boolean | undefined): string[] => [
  ...(features === undefined ? [] : ['--features', features.join(',')]),
  ...(defaults === false ? ['--no-default-features'] : []),
];

const isLocal = (origin: CargoOrigin): boolean => origin.crate.startsWith('./');

/** The key of a Rust component's pin; undefined for a crate of this repository, whose Cargo.lock stands beside it. */
export function cargoLocator(origin: CargoOrigin, component: Component): string | undefined {
  return isLocal(origin) ? undefined : `cargo:${origin.crate}@${component.version}`;
}

/** Tells a registry that cannot be reached, and a crate that is not there, from everything else that can go wrong in a download. */
function asDownloadError(error: unknown, where: string): unknown {
  const [, missing = ''] = /could not find `([^`]+)` in registry/.exec(messageOf(error)) ?? [];
  if (missing !== '') {
    const [crate = '', version] = missing.split('@');
    return new UserError(
      version === undefined ? `the crates registry has no crate '${crate}'` : `the crates registry has no ${crate} ${version}`,
      {
        where,
        next:
          version === undefined ? 'check its name (https://crates.io)' : `check its versions (https://crates.io/crates/${crate}/versions)`,
        cause: error,
      },
    );
  }
  if (!/Could not resolve host|Couldn't connect|Failed to connect|Timeout was reached|spurious network error/i.test(messageOf(error)))
    return error;
  return new UnreachableError('the crates registry cannot be reached', {
    where,
    next: "check the network, or set source replacement in cargo's configuration",
    cause: error,
  });
}

/** Cargo with a home of its own, cut off from the user's but for the registry that is configured there. */
export interface Cargo {
  readonly home: string;
  run(args: readonly string[], options?: ExecOptions): Promise<string>;
}

/** Cargo out of the pinned packages; `path` is its PATH. */
export async function openCargo(bin: string, home: string, options: { path?: string; signal?: AbortSignal } = {}): Promise<Cargo> {
  await makeFolder(home);
  const program = join(bin, 'cargo');
  const config = await userRegistry(home);
  const base = { PATH: options.path ?? `${bin}:/usr/bin:/bin`, CARGO: program, CARGO_HOME: home, ...networkEnv() };
  return {
    home,
    run: async (args, own = {}) =>
      exec(program, [...config, ...args], {
        cwd: '/',
        ...(options.signal === undefined ? {} : { signal: options.signal }),
        ...own,
        env: { ...base, ...own.env },
      }).catch((error: unknown) => {
        throw asDownloadError(error, args.at(-1) ?? '');
      }),
  };
}

/** Has cargo download a crate, checked against the registry's index; gives its path in cargo's cache. */
export async function downloadCrate(cargo: Cargo, crate: string, version: string): Promise<string> {
  const file = `${crate}-${version}.crate`;
  await cargo.run(['info', '--registry', 'crates-io', `${crate}@${version}`]);
  const [found] = await Array.fromAsync(glob(`registry/cache/*/${file}`, { cwd: cargo.home }));
  if (found === undefined) throw new UserError(`cargo fetched no ${file}`, { where: cargo.home });
  return join(cargo.home, found);
}

/** Checks every fetched crate against a Cargo.lock: cargo does so only while it downloads. */
async function checkCrates(lockFile: string, cargoHome: string): Promise<void> {
  for (const { name, version, checksum } of lockedCrates(await readFile(lockFile, 'utf8'), lockFile)) {
    const file = `${name}-${version}.crate`;
    // Those of other platforms are locked, but never fetched.
    for await (const path of glob(`registry/cache/*/${file}`, { cwd: cargoHome })) {
      const crate = join(cargoHome, path);
      if ((await hashFile(crate)) === checksum) continue;
      await rm(crate);
      throw new UserError(`wrong digest: ${file} is not what Cargo.lock says`, { where: crate, next: 'it was removed: build again' });
    }
  }
}

/** The digest of a crate of this repository. Git keeps the execute bit only; the rest of a mode is the umask of whoever checked out. */
async function crateDigest(folder: string): Promise<string> {
  const { entries } = await readTree(folder, new Map());
  const modeOf = ({ type, mode }: TreeEntry): number => (type === 'link' ? mode : (mode & 0o100) === 0 ? 0o644 : 0o755);
  return digestOf(entries.map((entry) => ({ ...entry, mode: modeOf(entry), component: undefined })));
}

/** What a Rust program is made of: its crate, whose Cargo.lock has all others, the compilers and what cargo is asked for. */
export async function describeCargo(origin: CargoOrigin, context: DescribeContext): Promise<OriginDescription> {
  const { component, dir, arch, records } = context;
  const locator = cargoLocator(origin, component);
  const pinned = locator === undefined ? undefined : pinnedBytes(context, locator);
  const material: Material =
    locator === undefined || pinned === undefined
      ? { locator: `files:${origin.crate.slice(2)}`, sha256: await crateDigest(join(dir, origin.crate)), proof: 'in this repository' }
      : { locator, sha256: pinned.sha256, proof: pinned.proof };
  const [rust, c, own] = [await records.rust(), await records.c(arch), await records.c(records.host)];
  const protoc = origin.protoc === true ? await records.tool('protoc') : [];
  return {
    format: `cargo ${BUILD_FORMAT}, toolchain ${TOOLCHAIN_FORMAT}`,
    materials: [material],
    parameters: {
      programs: origin.programs.join(' '),
      features: (origin.features ?? []).join(','),
      defaultFeatures: String(origin.defaultFeatures ?? true),
      env: JSON.stringify(origin.env ?? {}),
    },
    tools: [...new Map([...rust, ...c, ...own, ...protoc].map((record) => [record.sha256, record])).values()],
  };
}

/** Copies the crate's source into a folder: what its pin says, or this repository's own. */
async function openCrate(
  origin: CargoOrigin,
  context: OriginContext,
  sha256: string,
  cargo: Cargo,
): Promise<(dir: string) => Promise<void>> {
  const { component, store, dir, report } = context;
  if (isLocal(origin)) return (to) => copyTree(join(dir, origin.crate), to);
  const file = `${origin.crate}-${component.version}.crate`;
  let crate = await store.blob(sha256);
  if (crate === undefined) {
    report({ type: 'step', text: `fetching crate ${origin.crate} ${component.version}` });
    const found = await downloadCrate(cargo, origin.crate, component.version);
    crate = await store.withTemp(async (temp) => {
      await copyFile(found, join(temp, file));
      return (await store.keep(join(temp, file), sha256)).path;
    });
  }
  const from = crate;
  return (to) =>
    store.withTemp(async (temp) => {
      await unpack(from, `${file}.tar.gz`, temp);
      await copyTree(join(temp, `${origin.crate}-${component.version}`), to);
    });
}

function environment(origin: CargoOrigin, sysroot: string, arch: Arch): Record<string, string> {
  const words: Record<string, string> = { sysroot, triplet: archWords(arch).triplet };
  return Object.fromEntries(
    Object.entries(origin.env ?? {}).map(([key, value]) => [
      key,
      value.replaceAll(/\{(\w+)\}/g, (whole, word: string) => words[word] ?? whole),
    ]),
  );
}

/** The pinned compiler of protocol buffers as one program, and the definitions that others import; for prost-build. */
async function protocIn(dir: string, tools: Tools): Promise<{ env: Record<string, string>; inputs: string[] }> {
  const { command, args } = await tools.command('protoc');
  const PROTOC = join(dir, 'protoc');
  const program = args.at(-1) ?? '';
  await writeFile(PROTOC, `#!/bin/sh\nexec ${[command, ...args].map((word) => `'${word}'`).join(' ')} "$@"\n`, { mode: 0o755 });
  return { env: { PROTOC, PROTOC_INCLUDE: join(dirname(program), '../include') }, inputs: [resolve(program, '../../..')] };
}

/**
 * Names a crate without going there: in its folder cargo would read the crate's own `.cargo/config.toml`, which can name programs that cargo
 * runs (credential providers, wrappers of the compiler).
 */
const manifestIn = (source: string): string[] => ['--manifest-path', join(source, 'Cargo.toml')];

/** What `cargo tree` prints of a crate: `serde v1.0.2`; ` (…)` follows for those of a folder, which no registry has. */
const CRATE = /^([\w-]+) v(\S+)$/;

/** The crates of a registry that are compiled into a program: neither those of build scripts and macros, nor those of other platforms. */
async function cratesIn(
  { features, defaultFeatures }: CargoOrigin,
  { store }: OriginContext,
  about: { cargo: Cargo; crate: string; target: string; copyTo: (dir: string) => Promise<void> },
): Promise<OriginPackage[]> {
  const { cargo, crate, target, copyTo } = about;
  const key = digestOf({ number: RECORD_FORMAT, crate, target, features, defaultFeatures });
  const { dir } = await store.result('cargo-crates', key, (fresh) =>
    store.withTemp(async (temp) => {
      await copyTo(join(temp, 'source'));
      const manifest = manifestIn(join(temp, 'source'));
      await cargo.run(['fetch', '--locked', '--target', target, ...manifest]);
      const tree = await cargo.run(
        [
          'tree', ...manifest, '--frozen', '--target', target, '--edges', 'normal,no-proc-macro', '--prefix', 'none', '--no-dedupe', '--format', '{p}',
          ...featureFlags(features, defaultFeatures),
        ],
      ); // prettier-ignore
      const crates = [...new Set(tree.split('\n'))].toSorted().flatMap((line) => {
        const [, name, version] = CRATE.exec(line) ?? [];
        return name === undefined || version === undefined ? [] : [{ type: 'cargo', name, version, paths: 'programs' }];
      });
      await writeFile(join(fresh, 'crates.json'), JSON.stringify(crates));
    }),
  );
  const where = join(dir, 'crates.json');
  return parseJson(v.array(OriginPackageSchema), await readFile(where, 'utf8'), { what: 'list of crates', where, next: BUILD_AGAIN });
}

/** A cargo home of its own for the store: registry index and downloaded crates. */
export const cargoHomeOf = (store: Store): string => join(store.root, 'cargo');

/** What is compiled, with what, and where. */
interface CargoBuild {
  readonly temp: string;
  readonly cargoHome: string;
  readonly target: string;
  readonly rust: RustToolchain;
  readonly c: CToolchain;
  /** The C compiler for this host: build scripts and macros run while compiling. */
  readonly own: CToolchain;
}

/** The environment of cargo: linkers and C compilers by target, and paths of this machine, which must not be in the bytes (panics, debug information). */
function compileEnv({ temp, cargoHome, target, rust, c, own }: CargoBuild): Record<string, string> {
  const mapped = [
    [temp, '/build'],
    [cargoHome, '/cargo'],
    [rust.bin.slice(0, -'/usr/bin'.length), '/rust'],
    [c.sysroot, '/sysroot'],
  ].map(([from, to]) => `${from}=${to}`);
  const upper = (triple: string): string => triple.toUpperCase().replaceAll('-', '_');
  const lower = target.replaceAll('-', '_');
  const hostTarget = `${archWords(hostArch()).machine}-unknown-linux-gnu`;
  return {
    PATH: `${rust.bin}:${c.bin}:/usr/bin:/bin`,
    CARGO: join(rust.bin, 'cargo'),
    CARGO_HOME: cargoHome,
    // The host's own comes last: cargo takes one linker for a target.
    [`CARGO_TARGET_${upper(target)}_LINKER`]: join(c.bin, 'cc'),
    [`CARGO_TARGET_${upper(hostTarget)}_LINKER`]: join(own.bin, 'cc-to-run-here'),
    CARGO_ENCODED_RUSTFLAGS: [
      '-Ctarget-feature=+crt-static',
      '-Clink-arg=-Wl,--build-id=none',
      ...mapped.map((pair) => `--remap-path-prefix=${pair}`),
    ].join('\u001F'),
    CARGO_PROFILE_RELEASE_STRIP: 'symbols',
    CARGO_INCREMENTAL: '0',
    HOST_CC: join(own.bin, 'cc-to-run-here'),
    [`CC_${lower}`]: join(c.bin, 'cc'),
    [`AR_${lower}`]: join(c.bin, 'ar'),
    [`CFLAGS_${lower}`]: mapped.map((pair) => `-ffile-prefix-map=${pair}`).join(' '),
    PKG_CONFIG: join(c.bin, 'pkg-config'),
    PKG_CONFIG_ALLOW_CROSS: '1',
    SOURCE_DATE_EPOCH: '1',
  };
}

/** Fetches the crates of a Cargo.lock, checks them against it, and has cargo unpack what was just checked. */
async function fetchCrates(cargo: Cargo, source: string, target: string): Promise<void> {
  const fetch = ['fetch', '--locked', '--target', target, ...manifestIn(source)];
  await cargo.run(fetch);
  await checkCrates(join(source, 'Cargo.lock'), cargo.home);
  await rm(join(cargo.home, 'registry', 'src'), { recursive: true, force: true });
  await cargo.run([...fetch, '--offline']);
  await makeFolder(join(cargo.home, 'registry')); // a crate without others has none
}

/**
 * Compiles a Rust program: `--locked`, static (glibc linked in), for either architecture, the same bytes on every run.
 * Crates are fetched and checked against Cargo.lock first; build scripts, macros and the compiler then run in the sandbox.
 */
export async function buildCargo(origin: CargoOrigin, context: OriginContext): Promise<OriginResult> {
  const { component, arch, store, toolchains, sandbox, report, signal } = context;
  const description = await describeCargo(origin, context);
  const { parameters, tools } = description;
  const [rust, c, own] = [await toolchains.rust(), await toolchains.c(arch), await toolchains.c(hostArch())];
  const cargo = await openCargo(rust.bin, cargoHomeOf(store), { path: `${rust.bin}:${c.bin}:/usr/bin:/bin`, signal });
  const cargoHome = cargo.home;

  const crate = description.materials[0]?.sha256 ?? '';
  const copyTo = await openCrate(origin, context, crate, cargo);
  const key = digestOf({
    ...compiledFormat(BUILD_FORMAT),
    crate,
    arch,
    parameters,
    tools: tools.map(({ sha256 }) => sha256),
    sandbox: isolation(sandbox),
  });
  const target = `${archWords(arch).machine}-unknown-linux-gnu`;
  const { dir } = await compileOnce(context, 'cargo-build', key, async (fresh, temp) => {
    const source = join(temp, 'source');
    await copyTo(source);
    report({ type: 'step', text: `fetching the crates of ${component.name} ${component.version}` });
    await fetchCrates(cargo, source, target);
    report({ type: 'step', text: `compiling ${component.name} ${component.version} for ${arch} with Rust` });
    const settings = offlineSettings(await userConfig());
    const config = join(temp, 'registry.toml');
    if (settings !== '') await writeFile(config, `${settings}\n`);
    const protoc = origin.protoc === true ? await protocIn(temp, context.tools) : { env: {}, inputs: [] };
    const how = ['build', '--release', '--frozen', '--target', target, '--target-dir', join(temp, 'target'), ...manifestIn(source)];
    const what = [...origin.programs.flatMap((program) => ['--bin', program]), ...featureFlags(origin.features, origin.defaultFeatures)];
    await sandbox.run(join(rust.bin, 'cargo'), [...(settings === '' ? [] : ['--config', config]), ...how, ...what], {
      work: temp,
      cwd: '/',
      inputs: [join(cargoHome, 'registry'), resolve(rust.bin, '../..'), dirname(c.bin), dirname(own.bin), ...protoc.inputs],
      env: { ...compileEnv({ temp, cargoHome, target, rust, c, own }), ...protoc.env, ...environment(origin, c.sysroot, arch) },
      report,
      signal,
    });
    await mkdir(join(fresh, 'files'));
    for (const program of origin.programs) await takeFile(temp, join('target', target, 'release', program), join(fresh, 'files', program));
  });
  return { dir: join(dir, 'files'), ...description, packages: await cratesIn(origin, context, { cargo, crate, target, copyTo }) };
}
