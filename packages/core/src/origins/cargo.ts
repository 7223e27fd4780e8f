import { copyFile, glob, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import * as v from 'valibot';
import { type Arch, archWords, hostArch } from '../model/arch.ts';
import { UserError } from '../util/errors.ts';
import { expandTemplate } from '../util/template.ts';
import { locatorText } from '../model/locator.ts';
import type { CargoOrigin, Component } from '../definition/types.ts';
import { hashFile, makeFolder } from '../util/files.ts';
import { parseJson } from '../util/json.ts';
import { digestOf } from '../util/digest.ts';
import { compiledFormat, TOOLCHAIN_FORMAT, type CToolchain, type RustToolchain } from '../tools/toolchains.ts';
import type { Tools } from '../tools/tools.ts';
import { readTree } from '../image/tree.ts';
import type { TreeEntry } from '../model/payload.ts';
import { unpack } from '../store/unpack.ts';
import { copyTree } from '../util/walk.ts';
import { isolation, takeFile } from '../tools/sandbox.ts';
import { cargoHomeOf, downloadCrate, openCargo, type Cargo } from './cargo-command.ts';
import { offlineSettings, userConfig } from './cargo-config.ts';
import { lockedCrates } from './cargo-lock.ts';
import {
  BUILD_AGAIN,
  compileOnce,
  countingReport,
  countOf,
  OriginPackageSchema,
  ownMaterial,
  pinnedMaterial,
  type DescribeContext,
  type OriginContext,
  type OriginDescription,
  type OriginPackage,
  type OriginResult,
} from './origin.ts';

/** Raised when the same inputs must give other bytes. */
const BUILD_FORMAT = 1;

/** Raised when the list of crates of the same program must change. */
const RECORD_FORMAT = 1;

const featureFlags = (features: readonly string[] | undefined, defaults: boolean | undefined): string[] => [
  ...(features === undefined ? [] : ['--features', features.join(',')]),
  ...(defaults === false ? ['--no-default-features'] : []),
];

const isLocal = (origin: CargoOrigin): boolean => origin.crate.startsWith('./');

/** The key of a Rust component's pin; undefined for a crate of this repository, whose Cargo.lock is beside it. */
export function cargoLocator(origin: CargoOrigin, component: Component): string | undefined {
  return isLocal(origin) ? undefined : locatorText({ kind: 'crate', crate: origin.crate, version: component.version });
}

/** Checks every fetched crate against a Cargo.lock: cargo checks a crate only while it downloads it. */
async function checkCrates(lockFile: string, cargoHome: string): Promise<void> {
  for (const { name, version, checksum } of lockedCrates(await readFile(lockFile, 'utf8'), lockFile)) {
    const file = `${name}-${version}.crate`;
    // Crates of other platforms are locked, but never fetched.
    for await (const path of glob(`registry/cache/*/${file}`, { cwd: cargoHome })) {
      const crate = join(cargoHome, path);
      if ((await hashFile(crate)) === checksum) continue;
      await rm(crate);
      throw new UserError(`wrong digest: ${file} does not match Cargo.lock`, { where: crate, next: 'build again: the file was removed' });
    }
  }
}

/** The digest of a crate of this repository. Git keeps the execute bit only; the rest of a mode is the umask of whoever checked out. */
async function crateDigest(folder: string): Promise<string> {
  const { entries } = await readTree(folder, new Map());
  const modeOf = ({ type, mode }: TreeEntry): number => (type === 'link' ? mode : (mode & 0o100) === 0 ? 0o644 : 0o755);
  return digestOf(entries.map((entry) => ({ ...entry, mode: modeOf(entry), component: undefined })));
}

/** The inputs of a Rust program: its crate, whose Cargo.lock has all others, the compilers and cargo's options. */
export async function describeCargo(origin: CargoOrigin, context: DescribeContext): Promise<OriginDescription> {
  const { component, dir, arch, records } = context;
  const locator = cargoLocator(origin, component);
  const material =
    locator === undefined
      ? ownMaterial(origin.crate.slice(2), await crateDigest(join(dir, origin.crate)))
      : pinnedMaterial(context, locator);
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

/** Returns a function that copies the crate's source into a folder: the pinned crate, or a folder of this repository. */
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
  return Object.fromEntries(Object.entries(origin.env ?? {}).map(([key, value]) => [key, expandTemplate(value, words)]));
}

/** The pinned compiler of protocol buffers as one program, with the definitions that come with it; for prost-build. */
async function protocIn(dir: string, tools: Tools): Promise<{ env: Record<string, string>; inputs: string[] }> {
  const { command, args } = await tools.command('protoc');
  const PROTOC = join(dir, 'protoc');
  const program = args.at(-1) ?? '';
  await writeFile(PROTOC, `#!/bin/sh\nexec ${[command, ...args].map((word) => `'${word}'`).join(' ')} "$@"\n`, { mode: 0o755 });
  return { env: { PROTOC, PROTOC_INCLUDE: join(dirname(program), '../include') }, inputs: [resolve(program, '../../..')] };
}

/**
 * Names a crate by its manifest. Run in the crate's folder, cargo would read the crate's own `.cargo/config.toml`, which can name programs that
 * cargo runs (credential providers, wrappers of the compiler).
 */
const manifestIn = (source: string): string[] => ['--manifest-path', join(source, 'Cargo.toml')];

/** A crate as `cargo tree` prints it: `serde v1.0.2`; ` (…)` follows for a crate in a folder, which no registry has. */
const CRATE = /^([\w-]+) v(\S+)$/;

/** The crates of a registry that are compiled into a program, without those of build scripts, of macros and of other platforms. */
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
      const shown = ['--edges', 'normal,no-proc-macro', '--prefix', 'none', '--no-dedupe', '--format', '{p}'];
      const of = ['--frozen', '--target', target, ...featureFlags(features, defaultFeatures)];
      const tree = await cargo.run(['tree', ...manifest, ...shown, ...of]);
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

/** The folders and compilers of one build. */
interface CargoBuild {
  readonly temp: string;
  readonly cargoHome: string;
  readonly target: string;
  readonly rust: RustToolchain;
  readonly c: CToolchain;
  /** The C compiler for this host: build scripts and macros run while cargo compiles. */
  readonly own: CToolchain;
  /** How many crates are compiled. */
  readonly crates: number;
}

/** A line that cargo prints when it starts to compile a crate. */
const COMPILING = /^\s*Compiling \S+ v/;

/** The environment of cargo: linkers and C compilers by target, and mappings of this machine's paths, which must not be in the bytes. */
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
    // The linker for this host comes last: cargo takes one linker per target.
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

/** The number of crates that a build compiles, those of build scripts and macros included. */
async function countCrates({ features, defaultFeatures }: CargoOrigin, cargo: Cargo, source: string, target: string): Promise<number> {
  const shown = ['tree', ...manifestIn(source), '--edges', 'normal,build', '--prefix', 'none', '--no-dedupe', '--format', '{p}'];
  const tree = await cargo.run([...shown, '--frozen', '--target', target, ...featureFlags(features, defaultFeatures)]);
  return new Set(tree.split('\n').filter((line) => line !== '')).size;
}

/** Builds an origin's programs in the sandbox, from crates that were fetched. Leaves them in cargo's target folder. */
async function compile(origin: CargoOrigin, context: OriginContext, build: CargoBuild, source: string): Promise<void> {
  const { component, arch, sandbox, report, signal } = context;
  const { temp, cargoHome, target, rust, c, own, crates } = build;
  const settings = offlineSettings(await userConfig());
  const config = join(temp, 'registry.toml');
  if (settings !== '') await writeFile(config, `${settings}\n`);
  const protoc = origin.protoc === true ? await protocIn(temp, context.tools) : { env: {}, inputs: [] };
  const configured = settings === '' ? [] : ['--config', config];
  const how = ['build', '--release', '--frozen', '--target', target, '--target-dir', join(temp, 'target'), ...manifestIn(source)];
  const what = [...origin.programs.flatMap((program) => ['--bin', program]), ...featureFlags(origin.features, origin.defaultFeatures)];
  await sandbox.run(join(rust.bin, 'cargo'), [...configured, ...how, ...what], {
    work: temp,
    cwd: '/',
    inputs: [join(cargoHome, 'registry'), resolve(rust.bin, '../..'), dirname(c.bin), dirname(own.bin), ...protoc.inputs],
    env: { ...compileEnv(build), ...protoc.env, ...environment(origin, c.sysroot, arch) },
    report: countingReport(report, { what: component.name, total: crates, unit: 'crates' }, (line) => COMPILING.test(line)),
    signal,
  });
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
  const dir = await compileOnce(context, 'cargo-build', key, async (fresh, temp) => {
    const source = join(temp, 'source');
    await copyTo(source);
    report({ type: 'step', text: `fetching the crates of ${component.name} ${component.version}` });
    await fetchCrates(cargo, source, target);
    const crates = await countCrates(origin, cargo, source, target);
    report({ type: 'step', text: `compiling ${component.name} ${component.version} for ${arch} with Rust: ${countOf(crates, 'crate')}` });
    await compile(origin, context, { temp, cargoHome: cargo.home, target, rust, c, own, crates }, source);
    await mkdir(join(fresh, 'files'));
    for (const program of origin.programs) await takeFile(temp, join('target', target, 'release', program), join(fresh, 'files', program));
  });
  return { dir: join(dir, 'files'), ...description, packages: await cratesIn(origin, context, { cargo, crate, target, copyTo }) };
}
