// Pins the C and Rust toolchains again from Debian's signed indexes, for both kinds of host and target: scripts/run node scripts/pin/toolchains.ts
import { writeFile } from 'node:fs/promises';
import { ARCHES, archWords, resolveClosure, snapshotStamp, type Arch, type ToolchainPins } from '@flatcar/core/engine';
import { archive, component, packagesWithLibraries, pinsOf, pinText, readSuites, type Suites } from './debian.ts';

const suite = 'trixie';
// wasmtime and others require a newer Rust than any stable Debian has.
const newer = { suite: 'trixie-backports', picks: (name: string): boolean => /^(rustc|cargo|libstd-rust-)/.test(name) };
const gcc = 'gcc-14';
/** What static programs are linked with; crun needs libcap, yajl (json-c since 1.22) and seccomp, runc and youki seccomp. */
const libraries = ['libc6-dev', 'linux-libc-dev', 'libgcc-s1', 'libseccomp-dev', 'libcap-dev', 'libjson-c-dev', 'libyajl-dev'];

const suites: Readonly<Record<Arch, Suites>> = {
  'x86-64': await readSuites('x86-64', suite, newer),
  arm64: await readSuites('arm64', suite, newer),
};
const anyProgram = (path: string): boolean => /(^|\/)s?bin\/|\/libexec\/gcc/.test(path);

/** gcc and binutils that run on one architecture and build programs for another, and the libraries that gcc links by default. */
function compilerPackages(host: Arch, target: Arch): string[] {
  const dashed = archWords(target).triplet.replaceAll('_', '-');
  const own = host === target ? 'libgcc-14-dev' : `libgcc-14-dev-${archWords(target).debian}-cross`;
  return [`${gcc}-${dashed}`, `cpp-14-${dashed}`, `binutils-${dashed}`, own, 'pkgconf-bin', 'make'];
}

const hosts = {} as Record<Arch, ToolchainPins['hosts'][Arch]>;
const sysroots = {} as Record<Arch, string[]>;
const names: Record<Arch, string[]> = { 'x86-64': [], arm64: [] };
for (const arch of ARCHES) {
  const cc = {} as Record<Arch, string[]>;
  for (const target of ARCHES) cc[target] = await packagesWithLibraries(suites[arch], compilerPackages(arch, target), anyProgram);
  const rust = await packagesWithLibraries(suites[arch], ['rustc', 'cargo'], anyProgram);
  hosts[arch] = { cc, rust };
  // Headers and static libraries with their dependencies, without Debian's own tools among these.
  sysroots[arch] = resolveClosure(suites[arch].packages, libraries)
    .map(({ name }) => name)
    .filter((name) => /^(lib|linux-libc)/.test(name))
    .toSorted();
  names[arch].push(...Object.values(cc).flat(), ...rust, ...sysroots[arch], 'libstd-rust-dev');
}
const { date } = await archive.packages(suite, component, 'x86-64');
const pins: ToolchainPins = {
  suite,
  snapshot: snapshotStamp(date),
  hosts,
  sysroots,
  rustStd: 'libstd-rust-dev',
  packages: { 'x86-64': pinsOf(suites['x86-64'], names['x86-64'], suite), arm64: pinsOf(suites.arm64, names.arm64, suite) },
};
const file = new URL('../../packages/core/src/tools/data/toolchains.json', import.meta.url);
await writeFile(file, pinText(pins));
