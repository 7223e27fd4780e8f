import { debian, packaged, type Component } from '@flatcar/core';
import { ownFiles } from '../lib/own-files.ts';

/** Emulators of other architectures for programs, registered so that their containers run here. */
export function qemuUser(version: string): Component {
  const machines = '{aarch64,arm,i386,loongarch64,ppc64le,riscv64,s390x,x86_64}';
  const origin = debian(['qemu-user', 'qemu-user-binfmt'], {
    programs: [`qemu-${machines}`, '!qemu-{machine}'],
    // Debian registers none for what the machine runs by itself. `F` opens the emulator once, so that containers need none.
    relocate: {
      data: [
        `usr/lib/binfmt.d/qemu-${machines}.conf`,
        `usr/libexec/qemu-binfmt/${machines}-binfmt-P`,
        '!usr/libexec/qemu-binfmt/{machine}-binfmt-P',
      ],
    },
  });
  return { ...packaged('qemu-user', version, origin), lock: import.meta.dirname };
}

/** Registers the emulators when the image is merged: systemd-binfmt.service has run by then, or had nothing to do. */
export const binfmtService = ownFiles('binfmt-service', import.meta.dirname);
