import { binary, github, upstream, type Component } from '@flatcar/core';
import { firmware } from '../hypervisor-fw/component.ts';

/** Releases of cloud-hypervisor. */
export const cloudHypervisorReleases = github('cloud-hypervisor/cloud-hypervisor');

/** The versions that cloud-hypervisor and its firmware consist of. */
export interface CloudHypervisorVersions {
  readonly version: string;
  readonly firmware: string;
}

/** UEFI firmware is tagged by commit, so no list of versions has the newest: scripts/test_assets.yaml of cloud-hypervisor names the one it uses. */
const EDK2_TAG = 'ch-1e1b96f126';

/** cloud-hypervisor and ch-remote as upstream links them statically, with both kinds of firmware. */
export function cloudHypervisor(v: CloudHypervisorVersions): Component[] {
  const program = (name: string): Component => ({
    ...binary(name, v.version, cloudHypervisorReleases.asset(`${name}-static{arch}`, { arch: { 'x86-64': '', arm64: '-aarch64' } })),
    noSource: 'it needs crates from git repositories, which are in no registry',
    lock: import.meta.dirname,
  });
  const edk2: Component = {
    name: 'cloud-hypervisor-edk2',
    version: v.version,
    origins: [
      upstream(`https://github.com/cloud-hypervisor/edk2/releases/download/${EDK2_TAG}/CLOUDHV{arch}.fd`, {
        checksum: 'github',
        arch: { 'x86-64': '', arm64: '_EFI' },
      }),
    ],
    install: [{ from: 'cloud-hypervisor-edk2', to: 'usr/share/cloud-hypervisor/CLOUDHV.fd', mode: 0o644 }],
    noSource: 'edk2 is built from a git repository with submodules',
    lock: import.meta.dirname,
  };
  return [program('cloud-hypervisor'), program('ch-remote'), firmware(v.firmware), edk2];
}
