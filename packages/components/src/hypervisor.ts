// The hypervisors, each for an extension of its own and all together for `hypervisor`.
import { join } from 'node:path';
import { binary, debian, github, packaged, release, type Component, type VersionSource } from '@flatcar/core';

const lock = (name: string): string => join(import.meta.dirname, '..', 'locks', name);

/** QEMU as Debian has it; its emulators for programs are of the same source. */
export const qemuReleases: VersionSource = { kind: 'debian', at: 'trixie/main/qemu-system-x86', keep: 'newest' };

/** Firmware of machines that are not emulated here, and what QEMU's own tests need. */
const otherMachines = [
  '*.dtb', '*.tar.gz', 'QEMU,*', 'bamboo*', 'hppa-*', 'npcm*', 'openbios-*', 'opensbi-*', 'palcode-*', 'petalogix-*', 's390-*',
  'skiboot*', 'slof*', 'trace-events-all', 'u-boot*', 'vof*',
]; // prettier-ignore

/** qemu-system for x86-64 and arm64 guests, qemu-img, qemu-nbd, virtiofsd, and UEFI firmware for both. */
export function qemu(version: string): Component {
  const origin = debian(
    [
      ...['system-x86', 'system-arm', 'system-common', 'system-data', 'utils', 'block-extra', 'efi-aarch64'].map((name) => `qemu-${name}`),
      'ipxe-qemu',
      'ovmf',
      'seabios',
      'virtiofsd',
    ],
    {
      programs: ['qemu-system-x86_64', 'qemu-system-aarch64', 'qemu-img', 'qemu-io', 'qemu-nbd', 'qemu-storage-daemon'],
      // Without sound, braille and smart cards; of remote disks those without a cluster's client.
      dlopen: ['hw-display-*', 'hw-uefi-*', 'hw-usb-host', 'hw-usb-redirect', 'ui-curses', 'block-curl', 'block-iscsi', 'block-ssh'].map(
        (name) => `usr/lib/{triplet}/qemu/${name}.so`,
      ),
      data: [
        'usr/libexec/virtiofsd',
        'usr/lib/qemu/qemu-bridge-helper',
        ...['AAVMF', 'OVMF', 'qemu', 'qemu-efi-aarch64', 'seabios'].map((name) => `usr/share/${name}/**`),
        ...otherMachines.map((name) => `!usr/share/qemu/${name}`),
        ...['fd', 'pem', 'key'].map((kind) => `!usr/share/*/*snakeoil*.${kind}`), // keys that everybody knows
      ],
    },
  );
  return { ...packaged('hypervisor-qemu', version, origin), lock: lock('hypervisor-qemu') };
}

/** Of what QEMU's libraries could do, what a hypervisor does not: it mounts no file system, and loads no kernel module. */
export const qemuWaiver: Readonly<Record<string, string>> = {
  'compiled-in-path:libcryptsetup.so.12': 'for libmount to set up dm-verity, and QEMU mounts nothing',
  'compiled-in-path:liblzma.so.5': 'for libkmod to read compressed modules, and QEMU loads none',
  'compiled-in-path:/usr/bin/dmsetup': 'for libblkid to look into device mappers, and QEMU asks it for the size of blocks only',
};

/** Emulators of other architectures for programs, registered so that their containers run here. */
export function qemuUser(version: string): Component {
  const machines = '{aarch64,arm,i386,loongarch64,ppc64le,riscv64,s390x,x86_64}';
  const origin = debian(['qemu-user', 'qemu-user-binfmt'], {
    programs: [`qemu-${machines}`, '!qemu-{machine}'],
    // Debian registers none for what the machine runs by itself. `F` opens the emulator once, so that containers need none.
    data: [
      `usr/lib/binfmt.d/qemu-${machines}.conf`,
      `usr/libexec/qemu-binfmt/${machines}-binfmt-P`,
      '!usr/libexec/qemu-binfmt/{machine}-binfmt-P',
    ],
  });
  return { ...packaged('qemu-user', version, origin), lock: lock('qemu-user') };
}

/** Registers the emulators when the image is merged: systemd-binfmt.service has run by then, or had nothing to do. */
export const binfmtService: Component = {
  name: 'binfmt-service',
  version: '1',
  origins: [{ kind: 'files', dir: 'files' }],
  places: [{ from: '**', to: '' }],
  lock: lock('qemu-user'),
};

/** What cloud-hypervisor is made of. */
export interface CloudHypervisorVersions {
  readonly version: string;
  readonly firmware: string;
}
export const cloudHypervisorReleases = github('cloud-hypervisor/cloud-hypervisor');
export const firmwareReleases = github('cloud-hypervisor/rust-hypervisor-firmware', 'newest', { tagPrefix: '' });
/** UEFI firmware is tagged by commit, so that no list of versions tells the newest: scripts/test_assets.yaml of cloud-hypervisor names its own. */
const edk2 = 'ch-1e1b96f126';

/** cloud-hypervisor and ch-remote as upstream links them statically, with both kinds of firmware. */
export function cloudHypervisor(v: CloudHypervisorVersions): Component[] {
  const noSource = 'it needs crates out of git repositories, which are in no registry';
  const onArm = (suffix: string): { arch: { 'x86-64': string; arm64: string } } => ({ arch: { 'x86-64': '', arm64: suffix } });
  const folder = 'usr/share/cloud-hypervisor/';
  return [
    ...['cloud-hypervisor', 'ch-remote'].map((name) => ({
      ...binary(name, v.version, cloudHypervisorReleases.asset(`${name}-static{arch}`, onArm('-aarch64'))),
      noSource,
      lock: lock('cloud-hypervisor'),
    })),
    {
      name: 'hypervisor-fw',
      version: v.firmware,
      origins: [firmwareReleases.asset('hypervisor-fw{arch}', onArm('-aarch64'))],
      places: [{ from: 'hypervisor-fw', to: folder, mode: 0o644 }],
      noSource: 'it is built by a Rust toolchain of its own for bare machines',
      lock: lock('hypervisor-fw'),
    },
    {
      name: 'cloud-hypervisor-edk2',
      version: v.version,
      origins: [
        release(`https://github.com/cloud-hypervisor/edk2/releases/download/${edk2}/CLOUDHV{arch}.fd`, {
          checksum: 'github',
          ...onArm('_EFI'),
        }),
      ],
      places: [{ from: 'cloud-hypervisor-edk2', to: `${folder}CLOUDHV.fd`, mode: 0o644 }],
      noSource: 'edk2 is built from a git repository with submodules',
      lock: lock('cloud-hypervisor'),
    },
  ];
}

export const kataReleases = github('kata-containers/kata-containers', 'newest', { tagPrefix: '' });

/**
 * Kata Containers with its Rust runtime: since 4.1 upstream's archive has no other. Of it, what QEMU and cloud-hypervisor need to run
 * plain containers: no kernels and images for confidential guests and GPUs, no Firecracker, Dragonball and StratoVirt. Upstream's tree
 * of /opt/kata comes to /usr/lib/kata; its QEMU has the old path compiled in, and finds the new one by `qemu-bundle` beside it.
 */
export function kata(version: string): Component[] {
  const guest = 'opt/kata/share/kata-containers';
  const into = 'usr/lib/kata/share/kata-containers/';
  return [
    {
      name: 'kata-containers',
      version,
      origins: [kataReleases.asset('kata-static-{version}-{arch}.tar.zst')],
      places: [
        { from: 'opt/kata/runtime-rs/bin/containerd-shim-kata-v2', to: 'usr/bin/' },
        { from: 'opt/kata/bin/qemu-system-*64', to: 'usr/lib/kata/bin/' },
        { from: 'opt/kata/bin/cloud-hypervisor', to: 'usr/lib/kata/bin/' },
        { from: 'opt/kata/libexec/virtiofsd', to: 'usr/lib/kata/libexec/' },
        { from: 'opt/kata/share/kata-qemu/qemu/**', to: 'usr/lib/kata/share/kata-qemu/qemu/' },
        // Links with a name that stays, and what they lead to: other kernels and images have more words in theirs.
        ...['vmlinux.container', 'vmlinuz.container', 'kata-containers.img'].map((name) => ({ from: `${guest}/${name}`, to: into })),
        ...['vmlinux-*[0-9]', 'vmlinuz-*[0-9]'].map((name) => ({ from: `${guest}/${name}`, to: into })),
        { from: `${guest}/kata-*([a-z0-9])-*([a-z0-9]).image`, to: into },
      ],
      noSource: 'its runtime, kernel and image are built from git repositories, in containers of upstream',
      lock: lock('kata'),
    },
    ...['files', 'files-{arch}'].map((dir, index) => ({
      name: index === 0 ? 'kata-conf' : 'kata-conf-machine',
      version: '1',
      origins: [{ kind: 'files' as const, dir }],
      places: [{ from: '**', to: '' }],
      lock: lock('kata'),
    })),
  ];
}
