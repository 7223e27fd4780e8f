// Pins the image tools anew from the Debian suite's signed index, for both architectures: scripts/run node scripts/pin-tools.ts
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { openArchive, resolveClosure, snapshotStamp, unpackPackage } from '../packages/core/src/debian.ts';
import { readElf } from '../packages/core/src/elf.ts';
import { openStore } from '../packages/core/src/store.ts';
import type { ToolPins } from '../packages/core/src/tools.ts';
import type { Arch, Report } from '../packages/core/src/types.ts';

const suite = 'trixie';
const component = 'main';

interface Wanted {
  readonly program: string;
  /** Its own, and those of libraries that it loads by name. */
  readonly packages: readonly string[];
  /** Libraries that are loaded by name at run time, so that no ELF header tells of them. */
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
  bin('xz', ['xz-utils']),
  bin('bzip2', ['bzip2']),
  bin('qemu-aarch64', ['qemu-user']),
  ['go', { program: 'usr/lib/go-1.24/bin/go', packages: ['golang-1.24-go', 'golang-1.24-src'] }],
]);

const store = openStore();
const report: Report = (event) => {
  if (event.type === 'step' || event.type === 'notice') console.error(event.text);
};
const archive = openArchive(store, report);

/** Of the packages that a tool depends on, those that it loads libraries from. */
async function packagesOf(tool: Wanted, arch: Arch): Promise<string[]> {
  const { packages } = await archive.packages(suite, component, arch);
  return store.withTemp(async (temp) => {
    const owners = new Map<string, { name: string; file: string }>();
    for (const pin of resolveClosure(packages, tool.packages)) {
      const dir = join(temp, pin.name);
      const { file } = await archive.fetch(pin, { suite, snapshot: '', arch });
      await unpackPackage(file, dir);
      for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name);
        if (path === join(dir, tool.program) || /\.so(\.|$)/.test(entry.name)) owners.set(entry.name, { name: pin.name, file: path });
      }
    }
    const found = new Set<string>();
    const packagesFound = new Set(tool.packages);
    const visit = async (soname: string, by: string): Promise<void> => {
      if (found.has(soname)) return;
      found.add(soname);
      const owner = owners.get(soname);
      if (owner === undefined) throw new Error(`${by} needs ${soname}, which no package of its dependencies has`);
      packagesFound.add(owner.name);
      const needed = (await readElf(owner.file))?.needed ?? [];
      for (const library of needed) await visit(library, soname);
      if (needed.includes('libc.so.6')) await visit('libgcc_s.so.1', soname); // glibc loads it when a thread is cancelled
    };
    for (const name of [basename(tool.program), ...(tool.loads ?? [])]) await visit(name, tool.program);
    return [...packagesFound].toSorted();
  });
}

async function pinned(arch: Arch, names: readonly string[]): Promise<ToolPins['packages'][Arch]> {
  const { packages } = await archive.packages(suite, component, arch);
  const known = new Map(packages.map((one) => [one.name, one]));
  return Object.fromEntries(
    names.map((name) => {
      const found = known.get(name);
      if (found === undefined) throw new Error(`${suite} has no ${name} for ${arch}`);
      const { version, path, sha256, size } = found;
      return [name, { version, path, sha256, size }];
    }),
  );
}

const tools: Record<string, ToolPins['tools'][string]> = {};
for (const [name, tool] of Object.entries(wanted)) {
  const [here, there] = [await packagesOf(tool, 'x86-64'), await packagesOf(tool, 'arm64')];
  if (here.join() !== there.join()) throw new Error(`${name} needs ${here.join()} on x86-64 and ${there.join()} on arm64`);
  tools[name] = { program: tool.program, packages: here };
}
const names = [...new Set(Object.values(tools).flatMap(({ packages }) => packages))].toSorted();
const { date } = await archive.packages(suite, component, 'x86-64');
const pins: ToolPins = {
  suite,
  snapshot: snapshotStamp(date),
  tools,
  packages: { 'x86-64': await pinned('x86-64', names), arm64: await pinned('arm64', names) },
};
// One line for each tool and package, so that a re-pin can be read.
const file = new URL('../packages/core/src/data/tools.json', import.meta.url);
const text = JSON.stringify(pins, undefined, 2).replaceAll(/(": )(\{[^{}]*\})/g, (_, before: string, object: string) => before + object.replaceAll(/\s*\n\s*/g, ' ')); // prettier-ignore
await writeFile(file, `${text}\n`);
console.error((await readFile(file)).length, 'bytes of', file.pathname);
