import { github, type Component } from '@flatcar/core';

/** Releases of the firmware that boots Linux directly. */
export const firmwareReleases = github('cloud-hypervisor/rust-hypervisor-firmware', 'newest', { tagPrefix: '' });

/** Rust Hypervisor Firmware, for cloud-hypervisor. */
export function firmware(version: string): Component {
  return {
    name: 'hypervisor-fw',
    version,
    origins: [firmwareReleases.asset('hypervisor-fw{arch}', { arch: { 'x86-64': '', arm64: '-aarch64' } })],
    install: [{ from: 'hypervisor-fw', to: 'usr/share/cloud-hypervisor/', mode: 0o644 }],
    noSource: 'it is built by a Rust toolchain of its own for bare machines',
    lock: import.meta.dirname,
  };
}
