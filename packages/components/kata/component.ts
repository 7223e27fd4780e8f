import { github, type Component } from '@flatcar/core';

/** Releases of Kata Containers. */
export const kataReleases = github('kata-containers/kata-containers', 'newest', { tagPrefix: '' });

const GUEST = 'opt/kata/share/kata-containers';

function runtime(version: string): Component {
  const into = 'usr/lib/kata/share/kata-containers/';
  // Links whose names stay the same, and their targets: the names of other kernels and images have more words.
  const guest =
    'vmlinux.container vmlinuz.container kata-containers.img vmlinux-*[0-9] vmlinuz-*[0-9] kata-*([a-z0-9])-*([a-z0-9]).image'.split(' ');
  return {
    name: 'kata-containers',
    version,
    origins: [kataReleases.asset('kata-static-{version}-{arch}.tar.zst')],
    install: [
      { from: 'opt/kata/runtime-rs/bin/containerd-shim-kata-v2', to: 'usr/bin/' },
      { from: 'opt/kata/bin/qemu-system-*64', to: 'usr/lib/kata/bin/' },
      { from: 'opt/kata/bin/cloud-hypervisor', to: 'usr/lib/kata/bin/' },
      { from: 'opt/kata/libexec/virtiofsd', to: 'usr/lib/kata/libexec/' },
      { from: 'opt/kata/share/kata-qemu/qemu/**', to: 'usr/lib/kata/share/kata-qemu/qemu/' },
      ...guest.map((name) => ({ from: `${GUEST}/${name}`, to: into })),
    ],
    noSource: 'its runtime, kernel and image are built from git repositories, in containers of upstream',
    lock: import.meta.dirname,
  };
}

/** Configuration and units, from a folder beside this file. */
const settings = (name: string, dir: string): Component => ({
  name,
  version: '1',
  origins: [{ kind: 'files', dir }],
  install: [{ from: '**', to: '' }],
  lock: import.meta.dirname,
});

/**
 * Kata Containers with its Rust runtime: since 4.1 upstream's archive contains no other. This is the part that QEMU and cloud-hypervisor need
 * to run plain containers: no kernels and images for confidential guests and GPUs, no Firecracker, Dragonball and StratoVirt. Upstream's tree
 * of /opt/kata is installed in /usr/lib/kata; its QEMU has the old path compiled in, and finds the new one by `qemu-bundle` beside it.
 */
export function kata(version: string): Component[] {
  return [runtime(version), settings('kata-conf', 'files'), settings('kata-conf-machine', 'files-{arch}')];
}
