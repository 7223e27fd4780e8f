import type { Arch } from '@flatcar/core/engine';

/** How a guest's processor is run: by the host's, or translated. */
export type Accelerator = 'kvm' | 'tcg';

/** The console that the kernel of an architecture's virtual board writes to. */
export const consoleOf = (arch: Arch): string => (arch === 'arm64' ? 'ttyAMA0' : 'ttyS0');

/** QEMU's machine and processor for an architecture. */
export const BOARDS: Readonly<Record<Arch, { machine: string; cpu: Readonly<Record<Accelerator, string>> }>> = {
  'x86-64': { machine: 'q35', cpu: { kvm: 'host', tcg: 'max' } },
  arm64: { machine: 'virt', cpu: { kvm: 'host', tcg: 'max,pauth-impdef=on' } }, // the architected pointer authentication is slow to emulate
};
