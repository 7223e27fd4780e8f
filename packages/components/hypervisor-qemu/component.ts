import { debian, packaged, type Component, type VersionSource } from '@flatcar/core';

/** QEMU as Debian packages it; its emulators for programs are built from the same source. */
export const qemuReleases: VersionSource = { kind: 'debian', package: 'trixie/main/qemu-system-x86', track: 'newest' };

const PACKAGES = [
  ...['system-x86', 'system-arm', 'system-common', 'system-data', 'utils', 'block-extra', 'efi-aarch64'].map((name) => `qemu-${name}`),
  'ipxe-qemu',
  'ovmf',
  'seabios',
  'virtiofsd',
];

/** Modules of QEMU: without sound, braille and smart cards; for remote disks those that need no client of a cluster. */
const MODULES = ['hw-display-*', 'hw-uefi-*', 'hw-usb-host', 'hw-usb-redirect', 'ui-curses', 'block-curl', 'block-iscsi', 'block-ssh'];

/** Firmware of machines that are not emulated here, and what QEMU's own tests need. */
const OTHER_FIRMWARE =
  '*.dtb *.tar.gz QEMU,* bamboo* hppa-* npcm* openbios-* opensbi-* palcode-* petalogix-* s390-* skiboot* slof* trace-events-all u-boot* vof*';

/** qemu-system for x86-64 and arm64 guests, qemu-img, qemu-nbd, virtiofsd, and UEFI firmware for both. */
export function qemu(version: string): Component {
  const origin = debian(PACKAGES, {
    programs: ['qemu-system-x86_64', 'qemu-system-aarch64', 'qemu-img', 'qemu-io', 'qemu-nbd', 'qemu-storage-daemon'],
    relocate: {
      plugins: MODULES.map((name) => `usr/lib/{triplet}/qemu/${name}.so`),
      data: [
        'usr/libexec/virtiofsd',
        'usr/lib/qemu/qemu-bridge-helper',
        ...['AAVMF', 'OVMF', 'qemu', 'qemu-efi-aarch64', 'seabios'].map((name) => `usr/share/${name}/**`),
        ...OTHER_FIRMWARE.split(' ').map((name) => `!usr/share/qemu/${name}`),
        ...['fd', 'pem', 'key'].map((kind) => `!usr/share/*/*snakeoil*.${kind}`), // keys that everybody knows
      ],
    },
  });
  return { ...packaged('hypervisor-qemu', version, origin), lock: import.meta.dirname };
}

/** What QEMU's libraries could do and a hypervisor does not: it mounts no file system and loads no kernel module. */
export const qemuWaiver: Readonly<Record<string, string>> = {
  'compiled-in-path:libcryptsetup.so.12': 'for libmount to set up dm-verity, and QEMU mounts nothing',
  'compiled-in-path:liblzma.so.5': 'for libkmod to read compressed modules, and QEMU loads none',
  'compiled-in-path:/usr/bin/dmsetup': 'for libblkid to look into device mappers, and QEMU asks it for the size of blocks only',
};
