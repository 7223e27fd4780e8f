import { cp, mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  archWords,
  copyPublic,
  debianMirror,
  digestOf,
  exec,
  hashFile,
  hostArch,
  readErofs,
  type Arch,
  type Release,
  type Store,
  type Tools,
} from '@flatcar/core/engine';
import { record } from '../ledger.ts';
import { ensureMmdebstrap, MMDEBSTRAP, osRelease } from '../merge/root.ts';
import { consoleOf } from './board.ts';
import type { Boot, BootOptions } from './boot.ts';
import { initrdFor } from './initrd.ts';
import { writeSeed, type Seed } from './seed.ts';

/** The files of a stand-in: kernel and initrd beside the disks, so that no boot loader is needed. */
export interface StandIn {
  readonly kernel: string;
  /** The distribution's; initrd.ts adds ours to it. */
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
 * What stands in for Flatcar where no image of it is at hand, by the mergeStage of the release. The first merges in the
 * final system by systemd 257, the second in the initrd by systemd 260 or later.
 */
const SUITES: Readonly<Record<Release['mergeStage'], string>> = { system: 'trixie', initrd: 'sid' };

/** The part of Flatcar's /usr that extensions and the tests use. */
const PACKAGES: readonly string[] = [
  'systemd systemd-sysv systemd-resolved systemd-container systemd-cryptsetup dbus udev kmod procps iproute2 iptables nftables',
  'conntrack ethtool socat curl ca-certificates e2fsprogs gpg gpgv openssl openssh-server dmsetup cryptsetup-bin passwd',
  'libpam-systemd libnss-systemd zstd dracut',
].flatMap((line) => line.split(' '));

const DRACUT = `hostonly=no
early_microcode=no
compress="zstd -3"
add_dracutmodules+=" stand-in "
omit_dracutmodules+=" kernel-modules kernel-modules-extra i18n lvm mdraid dmraid multipath btrfs plymouth network resume nvdimm numlock pcsc tpm2-tss "
`;

/** Makes the initrd in an unpacked Debian; mmdebstrap starts it with the place of that. */
const INITRD =
  'chroot "$1" sh -euc \'kernel=$(ls /usr/lib/modules); dracut --quiet --force --tmpdir /var/tmp "/boot/initrd.img-$kernel" "$kernel"\'';

/** Files that are the same on every node. */
const ETC: Readonly<Record<string, string>> = {
  'etc/machine-id': '5ad1e0f0c0de4b1ea5f1a7ca7e57ab1e\n',
  'etc/hostname': 'stand-in\n',
  'etc/systemd/network/10-all.network': '[Match]\nType=ether\n\n[Network]\nDHCP=yes\n',
};

/** Folders that no test looks into, and drivers of devices that no machine of the tests has: unpacking and indexing them takes minutes if emulated. */
const WITHOUT: readonly string[] = [
  ...['doc', 'man', 'locale', 'info'].map((name) => `/usr/share/${name}/*`),
  ...['gpu', 'media', 'net/wireless', 'net/ethernet', 'infiniband', 'iio', 'staging'].map(
    (name) => `/usr/lib/modules/*/kernel/drivers/${name}/*`,
  ),
  '/usr/lib/modules/*/kernel/sound/*',
];

/** Raised if the same inputs must give other disks. */
const NUMBER = 2;

const guest = (name: string): string => join(import.meta.dirname, 'guest', name);

/**
 * Builds a stand-in from a Debian suite once, and keeps it in the store under the digest of its inputs. The suite has the state of the day on
 * which it was built; `packages` in the result lists every version, and its state is printed.
 */
export async function standIn(store: Store, tools: Tools, mergeStage: Release['mergeStage'], arch: Arch): Promise<StandIn> {
  const suite = SUITES[mergeStage];
  const packages = [...PACKAGES, `linux-image-${archWords(arch).debian}`];
  const dracut = await readFile(guest('dracut/module-setup.sh'), 'utf8');
  const inputs = { number: NUMBER, suite, arch, packages, without: WITHOUT, dracut: [DRACUT, dracut], etc: ETC };
  const started = Date.now();
  const { dir, cached } = await store.result('stand-in', digestOf(inputs), async (fresh) => {
    await ensureMmdebstrap();
    console.error(`making the stand-in for Flatcar out of ${suite} for ${arch} (minutes)`);
    await store.withTemp(async (temp) => {
      const root = join(temp, 'root');
      const hooks = join(temp, 'dracut');
      await cp(guest('dracut'), join(hooks, '99stand-in'), { recursive: true, verbatimSymlinks: true });
      await writeFile(join(hooks, 'stand-in.conf'), DRACUT);
      const mirror = await debianMirror();
      await withPrograms(tools, arch, async () => {
        const hook = [
          'mkdir -p "$1/usr/lib/dracut/modules.d" "$1/etc/dracut.conf.d"',
          `cp -r '${hooks}/99stand-in' "$1/usr/lib/dracut/modules.d/"`,
          `cp '${hooks}/stand-in.conf' "$1/etc/dracut.conf.d/"`,
        ];
        const without = WITHOUT.map((path) => `--dpkgopt=path-exclude=${path}`);
        const content = [`--essential-hook=${hook.join(' && ')}`, `--include=${packages.join(',')}`, `--customize-hook=${INITRD}`];
        const architecture = [`--architectures=${archWords(arch).debian}`, '--skip=check/qemu'];
        // Debian's hooks make an initrd when the kernel is installed, and again at the end; emulated, each takes minutes.
        const env = { INITRD: 'No' };
        await exec('mmdebstrap', [...MMDEBSTRAP, ...architecture, ...without, ...content, suite, root, mirror], { env });
        // By its own systemctl: not every host has one.
        const units = ['networkd', 'resolved', 'sysext', 'confext'].map((name) => `systemd-${name}`);
        await exec('chroot', [root, 'systemctl', '--quiet', 'enable', ...units]);
      });
      await writeFile(join(fresh, 'packages'), await exec('dpkg-query', [`--admindir=${join(root, 'var/lib/dpkg')}`, '--show']));
      await makeDisks(tools, root, fresh);
    });
  });
  await record(`stand-in of ${suite} for ${arch}`, cached, started);
  console.error(await stateOf(dir, `${suite} for ${arch}`));
  const usr = join(dir, 'usr.erofs');
  const osReleaseOffset = (await readErofs(usr)).plainBlock('lib/os-release');
  if (osReleaseOffset === undefined) throw new Error(`os-release is no block of its own in ${usr}`);
  return { kernel: join(dir, 'kernel'), initrd: join(dir, 'initrd'), usr, osReleaseOffset, root: join(dir, 'root.qcow2') };
}

/** Days after which the age of a stand-in is printed. */
const OLD = 30;

/** One line about the packages of a stand-in: the same digest means the same versions, on any machine and day. */
export async function stateOf(dir: string, what: string, now = Date.now()): Promise<string> {
  const packages = join(dir, 'packages');
  const { mtime } = await stat(packages);
  const days = Math.floor((now - mtime.getTime()) / 86_400_000);
  const age = days > OLD ? `, ${days} days old: remove ${dir} to build it again` : '';
  return `stand-in: ${what} of ${mtime.toISOString().slice(0, 10)}, packages ${(await hashFile(packages)).slice(0, 16)}${age}`;
}

/**
 * Does something while this host's kernel starts programs of an architecture, because Debian's packages run their own programs when they are
 * installed. If no emulator is registered (binfmt_misc in the kernel's documentation), the pinned one is registered meanwhile.
 */
async function withPrograms<T>(tools: Tools, arch: Arch, use: () => Promise<T>): Promise<T> {
  const { machine, elf } = archWords(arch);
  const folder = '/proc/sys/fs/binfmt_misc';
  const enabled = async (name: string): Promise<boolean> =>
    (await readFile(join(folder, name), 'utf8').catch(() => '')).startsWith('enabled');
  if (arch === hostArch() || (await enabled(`qemu-${machine}`))) return use();
  const { command } = await tools.command(`qemu-${machine}`);
  const bytes = (values: readonly number[]): string => values.map((value) => `\\x${value.toString(16).padStart(2, '0')}`).join('');
  // e_ident, e_type (a program or a shared object) and e_machine of elf(5); any ABI.
  const magic = bytes([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, elf, 0]);
  const mask = bytes([255, 255, 255, 255, 255, 255, 255, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0xfe, 255, 255, 255]);
  const name = `flatcar-ext-${machine}`;
  await exec('sh', ['-c', `mountpoint -q ${folder} || mount -t binfmt_misc binfmt_misc ${folder}`]);
  if (await enabled(name)) await writeFile(join(folder, name), '-1'); // of a process that was killed
  // F: opened now, so that it is found in a chroot; P: the program's own name is kept.
  await writeFile(join(folder, 'register'), `:${name}:M::${magic}:${mask}:${command}:PF`);
  try {
    return await use();
  } finally {
    await writeFile(join(folder, name), '-1');
  }
}

/** Writes kernel, initrd, a read-only /usr and a root from an unpacked Debian. */
async function makeDisks(tools: Tools, root: string, out: string): Promise<void> {
  const boot = await readdir(join(root, 'boot'));
  for (const [from, to] of [
    ['vmlinuz-', 'kernel'],
    ['initrd.img-', 'initrd'],
  ] as const) {
    const name = boot.find((one) => one.startsWith(from));
    if (name === undefined) throw new Error(`Debian has no ${from}*`);
    await copyPublic(join(root, 'boot', name), join(out, to)); // dracut's has 0600
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

/** os-release as one block, which another release replaces. */
const osReleaseBlock = (release: string): Buffer => Buffer.from(osRelease(release).padEnd(4096, '\n'));

/** Writes a copy of /usr with the os-release of a release, as an update of the OS would. */
export async function usrOf(os: StandIn, release: string, out: string): Promise<void> {
  await copyPublic(os.usr, out);
  const handle = await open(out, 'r+');
  try {
    await handle.write(osReleaseBlock(release), 0, 4096, os.osReleaseOffset);
  } finally {
    await handle.close();
  }
}

/** A kernel without a root ends in a panic: it has run that far. */
const RAN = /Kernel panic - not syncing: VFS/;

/** Parts of Flatcar that no Debian package contains: the group docker, and up to 4593 the service after which systemd loads units of merged images. */
async function partsOfFlatcar({ release: { mergeStage }, network }: BootOptions): Promise<Required<Pick<Seed, 'files' | 'links'>>> {
  const units = '/etc/systemd/system';
  const ensures = mergeStage === 'system';
  const text = (name: string): Promise<string> => readFile(guest(name), 'utf8');
  return {
    files: {
      '/etc/userdb/docker.group': await text('docker.group'),
      ...(ensures ? { [`${units}/ensure-sysext.service`]: await text('ensure-sysext.service') } : {}),
    },
    links: {
      '/etc/userdb/233.group': 'docker.group',
      ...(ensures ? { [`${units}/sysinit.target.wants/ensure-sysext.service`]: `${units}/ensure-sysext.service` } : {}),
      // Without a network it would wait two minutes.
      ...(network ? {} : { [`${units}/systemd-networkd-wait-online.service`]: '/dev/null' }),
    },
  };
}

/** A stand-in, ready to boot; its initrd unpacks the seed. */
export async function standInBoot(store: Store, tools: Tools, os: StandIn, seed: Seed, options: BootOptions): Promise<Boot> {
  const { release, arch, network, temp } = options;
  const at = (name: string): string => join(temp, name);
  await writeFile(at('initrd'), await initrdFor(release.mergeStage, os.initrd));
  const parts = await partsOfFlatcar(options);
  await writeSeed(store, { ...seed, files: { ...parts.files, ...seed.files }, links: { ...parts.links, ...seed.links } }, at('seed'));
  await tools.run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', os.root, '-F', 'qcow2', at('root')]);
  const disk = (name: string, file: string, format: string, more = ''): string[] => {
    const drive = ['-drive', `if=none,id=${name},file=${file},format=${format}${more}`];
    return [...drive, '-device', `virtio-blk-pci,drive=${name},serial=${name}`];
  };
  const kernelLine = [
    `console=${consoleOf(arch)} root=/dev/disk/by-id/virtio-root rw rootfstype=ext4`,
    'mount.usr=/dev/disk/by-id/virtio-usr mount.usrfstype=erofs mount.usrflags=ro',
    'panic=30 rd.shell=0 SYSTEMD_SULOGIN_FORCE=1 systemd.firstboot=no loglevel=4',
    // A host may be slow, and a test must not judge that.
    'systemd.default_device_timeout_sec=900 systemd.default_timeout_start_sec=900',
  ].join(' ');
  const usrs = new Map<string, string>();
  return {
    firmware: false,
    probe: { args: ['-kernel', os.kernel, '-append', `console=${consoleOf(arch)} panic=-1`], shows: RAN },
    async args(next) {
      if (next.mergeStage !== release.mergeStage)
        throw new Error(`the stand-in of ${release.number} cannot become ${next.number}, which merges at another stage`);
      const usr = usrs.get(next.number) ?? at(`usr-${next.number}`);
      if (!usrs.has(next.number)) await usrOf(os, next.number, usr);
      usrs.set(next.number, usr);
      const disks = [
        ...disk('usr', usr, 'raw', ',readonly=on'),
        ...disk('root', at('root'), 'qcow2', ',cache=unsafe'),
        ...disk('seed', at('seed'), 'raw', ',readonly=on'),
      ];
      const nic = network ? ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net'] : ['-nic', 'none'];
      return ['-kernel', os.kernel, '-initrd', at('initrd'), '-append', kernelLine, ...disks, ...nic];
    },
    async [Symbol.asyncDispose]() {},
  };
}
