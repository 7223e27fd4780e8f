// Pins the image tools again from the Debian suite's signed index, for both architectures: scripts/run node scripts/pin/tools.ts
// With names (`tools.ts zstd`), pins only those tools; all others keep their packages, and with them the keys of what they made.
import { readFile, writeFile } from 'node:fs/promises';
import { ARCHES, snapshotStamp, type ToolPins } from '@flatcar/core/engine';
import { archive, component, packagesWithLibraries, pinsOf, pinText, readSuites } from './debian.ts';

const suite = 'trixie';

interface Wanted {
  readonly program: string;
  /** Its package, and those of libraries that it loads by name. */
  readonly packages: readonly string[];
  /** Libraries that it loads by name at run time, which no ELF header lists. */
  readonly loads?: readonly string[];
}
const bin = (name: string, packages: readonly string[], loads: readonly string[] = []): [string, Wanted] => [
  name,
  { program: `usr/bin/${name}`, packages, loads },
];
const wanted: Readonly<Record<string, Wanted>> = Object.fromEntries([
  ...['mksquashfs', 'unsquashfs'].map((name) => bin(name, ['squashfs-tools'])),
  ...['mkfs.erofs', 'fsck.erofs', 'dump.erofs'].map((name) => bin(name, ['erofs-utils'])),
  bin('systemd-repart', ['systemd-repart', 'libcryptsetup12'], ['libcryptsetup.so.12']), // for dm-verity
  bin('patchelf', ['patchelf']),
  bin('bwrap', ['bubblewrap']),
  bin('setpriv', ['util-linux']), // where bwrap needs sudo
  bin('shellcheck', ['shellcheck']),
  bin('protoc', ['protobuf-compiler', 'libprotobuf-dev']), // with the definitions that others import
  bin('xz', ['xz-utils']),
  bin('bzip2', ['bzip2']),
  bin('zstd', ['zstd']),
  bin('qemu-aarch64', ['qemu-user']),
  // Machines of the tests, with their firmware.
  bin('qemu-system-x86_64', ['qemu-system-x86', 'qemu-system-data', 'seabios', 'ipxe-qemu']),
  bin('qemu-system-aarch64', ['qemu-system-arm', 'qemu-system-data', 'ipxe-qemu', 'qemu-efi-aarch64']),
  bin('qemu-img', ['qemu-utils']),
  ['mkfs.ext4', { program: 'usr/sbin/mke2fs', packages: ['e2fsprogs'] }],
  ['go', { program: 'usr/lib/go-1.24/bin/go', packages: ['golang-1.24-go', 'golang-1.24-src'] }],
]);

const file = new URL('../../packages/core/src/tools/data/tools.json', import.meta.url);
const only = process.argv.slice(2);
const before = only.length === 0 ? undefined : (JSON.parse(await readFile(file, 'utf8')) as ToolPins);
const unknown = only.find((name) => wanted[name] === undefined);
if (unknown !== undefined) throw new Error(`'${unknown}' is not a tool: ${Object.keys(wanted).join(', ')}`);

const suites = { 'x86-64': await readSuites('x86-64', suite), arm64: await readSuites('arm64', suite) };
const tools: Record<string, ToolPins['tools'][string]> = {};
for (const [name, tool] of Object.entries(wanted)) {
  const kept = only.includes(name) ? undefined : before?.tools[name];
  if (kept !== undefined) {
    tools[name] = kept;
    continue;
  }
  const [here, there] = await Promise.all(
    [suites['x86-64'], suites.arm64].map((one) => packagesWithLibraries(one, tool.packages, (path) => path === tool.program, tool.loads)),
  );
  if (here?.join() !== there?.join()) throw new Error(`${name} needs ${here?.join()} on x86-64 and ${there?.join()} on arm64`);
  tools[name] = { program: tool.program, packages: here ?? [] };
}
const names = Object.values(tools).flatMap(({ packages }) => packages);
const [x86, arm] = ARCHES.map((arch) => {
  const kept = before?.packages[arch] ?? {};
  const fresh = names.filter((name) => kept[name] === undefined);
  const all = { ...kept, ...pinsOf(suites[arch], fresh, suite) };
  return Object.fromEntries(Object.entries(all).toSorted(([a], [b]) => (a < b ? -1 : 1)));
});
const { date } = await archive.packages(suite, component, 'x86-64');
const pins: ToolPins = {
  suite,
  snapshot: before?.snapshot ?? snapshotStamp(date),
  tools,
  packages: { 'x86-64': x86 ?? {}, arm64: arm ?? {} },
};
await writeFile(file, pinText(pins));
console.error((await readFile(file)).length, 'bytes of', file.pathname);
