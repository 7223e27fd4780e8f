// Pins the image tools anew from the Debian suite's signed index: node scripts/pin-tools.ts
import { writeFile } from 'node:fs/promises';
import { readSuite } from '../packages/core/src/debian.ts';
import { openStore } from '../packages/core/src/store.ts';
import type { ToolPins } from '../packages/core/src/tools.ts';
import type { Arch } from '../packages/core/src/types.ts';

const suite = 'trixie';
const libc = ['libc6', 'libgcc-s1'];
const compression = ['liblz4-1', 'liblzma5', 'libzstd1', 'zlib1g'];
// Programs and the packages of all libraries that they load, dlopen'ed ones included.
const squashfs = [...libc, ...compression, 'liblzo2-2', 'squashfs-tools'];
const erofs = [
  ...libc,
  ...compression,
  'libdeflate0',
  'libselinux1',
  'libpcre2-8-0',
  'libuuid1',
  'libxxhash0',
  'libfuse2t64',
  'erofs-utils',
];
const repart = [...libc, ...compression, 'libblkid1', 'libcap2', 'libcrypt1', 'libacl1', 'libcryptsetup12', 'libdevmapper1.02.1', 'libfdisk1', 'libjson-c5', 'libargon2-1', 'libmount1', 'libpcre2-8-0', 'libseccomp2', 'libselinux1', 'libssl3t64', 'libsystemd-shared', 'libudev1', 'libuuid1', 'libpopt0', 'systemd-repart']; // prettier-ignore
const tools: ToolPins['tools'] = {
  mksquashfs: { program: 'usr/bin/mksquashfs', packages: squashfs },
  unsquashfs: { program: 'usr/bin/unsquashfs', packages: squashfs },
  'mkfs.erofs': { program: 'usr/bin/mkfs.erofs', packages: erofs },
  'fsck.erofs': { program: 'usr/bin/fsck.erofs', packages: erofs },
  'dump.erofs': { program: 'usr/bin/dump.erofs', packages: erofs },
  'systemd-repart': { program: 'usr/bin/systemd-repart', packages: repart },
  patchelf: { program: 'usr/bin/patchelf', packages: [...libc, 'libstdc++6', 'patchelf'] },
  xz: { program: 'usr/bin/xz', packages: [...libc, 'liblzma5', 'xz-utils'] },
  bzip2: { program: 'usr/bin/bzip2', packages: [...libc, 'libbz2-1.0', 'bzip2'] },
  go: { program: 'usr/lib/go-1.24/bin/go', packages: ['golang-1.24-go', 'golang-1.24-src'] },
  'qemu-aarch64': { program: 'usr/bin/qemu-aarch64', packages: ['qemu-user'] },
};

const store = openStore();
const pinned = async (arch: Arch): Promise<ToolPins['packages'][Arch]> => {
  const index = await readSuite(store, suite, arch, (event) => console.error(event));
  const names = [...new Set(Object.values(tools).flatMap(({ packages }) => packages))].toSorted();
  return Object.fromEntries(
    names.map((name) => {
      const found = index.find((one) => one.name === name);
      if (found === undefined) throw new Error(`${suite} has no ${name} for ${arch}`);
      const { version, path, sha256, size } = found;
      return [name, { version, path, sha256, size }];
    }),
  );
};
const snapshot = `${new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
const pins: ToolPins = { suite, snapshot, tools, packages: { 'x86-64': await pinned('x86-64'), arm64: await pinned('arm64') } };
await writeFile(new URL('../packages/core/src/data/tools.json', import.meta.url), `${JSON.stringify(pins, undefined, 2)}\n`);
