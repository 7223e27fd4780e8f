import { copyFile, cp, mkdir, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  archWords,
  debianMirror,
  digestOf,
  exec,
  hostArch,
  readErofs,
  UserError,
  type Arch,
  type Release,
  type Store,
  type Tools,
} from '@flatcar/core';
import { ensureMmdebstrap, osRelease } from '../root.ts';

/** An operating system as a machine starts it: kernel and initrd beside the disks, so that no boot loader is needed. */
export interface OperatingSystem {
  readonly kernel: string;
  /** The distribution's; initrd.ts adds what makes it ours. */
  readonly initrd: string;
  /** Read-only /usr: an erofs whose os-release is a block of its own. */
  readonly usr: string;
  /** Byte offset of that block. */
  readonly osReleaseOffset: number;
  /** Everything else: an ext4 in a qcow2. */
  readonly root: string;
}

/** Size of the root file system, bytes; it is sparse. */
const ROOT_SIZE = 6 * 2 ** 30;

/**
 * What stands in for Flatcar where no image of it is at hand, by the era of the release. The first merges in the
 * final system by systemd 257, the second in the initrd by systemd 260 or later.
 */
const SUITES: Readonly<Record<Release['era'], string>> = { final: 'trixie', initrd: 'sid' };

/** What Flatcar has in its /usr, as far as extensions and the tests call it. */
const PACKAGES = [
  'systemd', 'systemd-sysv', 'systemd-resolved', 'systemd-container', 'systemd-cryptsetup', 'dbus', 'udev', 'kmod', 'procps',
  'iproute2', 'iptables', 'nftables', 'conntrack', 'ethtool', 'socat', 'curl', 'ca-certificates', 'e2fsprogs', 'gpgv', 'openssl',
  'openssh-server', 'dmsetup', 'cryptsetup-bin', 'passwd', 'libpam-systemd', 'libnss-systemd', 'zstd', 'dracut',
] as const; // prettier-ignore

const DRACUT = `hostonly=no
early_microcode=no
compress="zstd -3"
add_dracutmodules+=" stand-in "
omit_dracutmodules+=" kernel-modules kernel-modules-extra i18n lvm mdraid dmraid multipath btrfs plymouth network resume nvdimm numlock pcsc tpm2-tss "
`;

/** What is the same on every node, as far as the tests look at it. */
const ETC: Readonly<Record<string, string>> = {
  'etc/machine-id': '5ad1e0f0c0de4b1ea5f1a7ca7e57ab1e\n',
  'etc/hostname': 'stand-in\n',
  'etc/systemd/network/10-all.network': '[Match]\nType=ether\n\n[Network]\nDHCP=yes\n',
};

/** Raised when the same inputs are to give other disks. */
const NUMBER = 1;

const guest = (name: string): string => join(import.meta.dirname, 'guest', name);

/**
 * Makes a stand-in out of a Debian suite, once: the result is kept in the store under the digest of what decides it.
 * The suite's state is that of the day on which it was made; `packages` in the result lists every version.
 */
export async function standIn(store: Store, tools: Tools, era: Release['era'], arch: Arch): Promise<OperatingSystem> {
  const suite = SUITES[era];
  const packages = [...PACKAGES, `linux-image-${archWords(arch).debian}`];
  const dracut = await readFile(guest('dracut/module-setup.sh'), 'utf8');
  const inputs = { number: NUMBER, suite, arch, packages, dracut: [DRACUT, dracut], etc: ETC };
  const { dir } = await store.result('stand-in', digestOf(inputs), async (fresh) => {
    await ensureForeign(arch);
    await ensureMmdebstrap();
    console.error(`making the stand-in for Flatcar out of ${suite} for ${arch} (minutes)`);
    await store.withTemp(async (temp) => {
      const root = join(temp, 'root');
      const hooks = join(temp, 'dracut');
      await cp(guest('dracut'), join(hooks, '99stand-in'), { recursive: true });
      await writeFile(join(hooks, 'stand-in.conf'), DRACUT);
      await exec('mmdebstrap', [
        '--quiet', '--mode=root', '--variant=minbase', `--architectures=${archWords(arch).debian}`,
        '--aptopt=Acquire::Check-Valid-Until "false"', // mirrors may be older than an index of unstable lives
        ...['doc', 'man', 'locale', 'info'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
        `--essential-hook=mkdir -p "$1/usr/lib/dracut/modules.d" "$1/etc/dracut.conf.d" && cp -r ${hooks}/99stand-in "$1/usr/lib/dracut/modules.d/" && cp ${hooks}/stand-in.conf "$1/etc/dracut.conf.d/"`,
        `--include=${packages.join(',')}`, suite, root, await debianMirror(),
      ]); // prettier-ignore
      await writeFile(join(fresh, 'packages'), await exec('dpkg-query', [`--admindir=${join(root, 'var/lib/dpkg')}`, '--show']));
      // By its own systemctl: not every host has one.
      await exec('chroot', [root, 'systemctl', '--quiet', 'enable', ...['networkd', 'resolved', 'sysext', 'confext'].map((name) => `systemd-${name}`)]); // prettier-ignore
      await makeDisks(tools, root, fresh);
    });
  });
  const usr = join(dir, 'usr.erofs');
  const osReleaseOffset = (await readErofs(usr)).plainBlock('lib/os-release');
  if (osReleaseOffset === undefined) throw new Error(`os-release is no block of its own in ${usr}`);
  return { kernel: join(dir, 'kernel'), initrd: join(dir, 'initrd'), usr, osReleaseOffset, root: join(dir, 'root.qcow2') };
}

/** Debian's packages set themselves up by their own programs, which the kernel must be able to start. */
async function ensureForeign(arch: Arch): Promise<void> {
  if (arch === hostArch()) return;
  const where = `/proc/sys/fs/binfmt_misc/qemu-${archWords(arch).machine}`;
  const registered = await readFile(where, 'utf8').catch(() => '');
  if (registered.startsWith('enabled')) return;
  throw new UserError(`a Debian for ${arch} is made by programs of its own, and this host's kernel starts none of them`, {
    where,
    next: `install qemu-user-static and binfmt-support, or run this on ${arch}`,
  });
}

/** Turns an unpacked Debian into kernel, initrd, a read-only /usr and a root. */
async function makeDisks(tools: Tools, root: string, out: string): Promise<void> {
  const boot = await readdir(join(root, 'boot'));
  for (const [from, to] of [
    ['vmlinuz-', 'kernel'],
    ['initrd.img-', 'initrd'],
  ] as const) {
    const name = boot.find((one) => one.startsWith(from));
    if (name === undefined) throw new Error(`Debian made no ${from}*`);
    await copyFile(join(root, 'boot', name), join(out, to));
  }
  await rm(join(root, 'boot'), { recursive: true });
  for (const [path, text] of Object.entries(ETC)) await writeFile(join(root, path), text);
  for (const folder of ['etc/extensions', 'var/lib/confexts', 'opt', 'boot']) await mkdir(join(root, folder), { recursive: true });
  await writeFile(join(root, 'usr/lib/os-release'), osReleaseBlock('0.0.0'));
  const hints = join(out, '../hints'); // beside the result, in the folder that goes away with it
  await writeFile(hints, '0 os-release\n');
  await tools.run('mkfs.erofs', ['--quiet', '-zlz4', `--compress-hints=${hints}`, join(out, 'usr.erofs'), join(root, 'usr')]);
  await rm(join(root, 'usr'), { recursive: true });
  await mkdir(join(root, 'usr'));
  const disk = join(out, '../root.ext4');
  await tools.run('mkfs.ext4', ['-q', '-L', 'ROOT', '-d', root, disk, String(ROOT_SIZE / 1024)]);
  await tools.run('qemu-img', ['convert', '-O', 'qcow2', disk, join(out, 'root.qcow2')]);
}

/** os-release as the one block that another release replaces. */
const osReleaseBlock = (release: string): Buffer => Buffer.from(osRelease(release).padEnd(4096, '\n'));

/** A copy of /usr that calls itself a release, as an update of the OS would bring. */
export async function usrOf(os: OperatingSystem, release: string, out: string): Promise<void> {
  await copyFile(os.usr, out);
  const handle = await open(out, 'r+');
  try {
    await handle.write(osReleaseBlock(release), 0, 4096, os.osReleaseOffset);
  } finally {
    await handle.close();
  }
}
