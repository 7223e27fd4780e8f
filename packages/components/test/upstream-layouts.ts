// The contents of upstream archives, for the tests that serve files of the same layout (testUpstream).
const all = (folder: string, names: string): string[] => names.split(' ').map((name) => `${folder}${name}`);
type Layout = readonly [name: RegExp, members: readonly string[]];

export const containerdLayout: Layout = [/^containerd-static-/, all('bin/', 'containerd containerd-shim-runc-v2 containerd-stress ctr')];
// Its containerd and runc are not used: the shared components have their own.
export const dockerLayout: Layout = [
  /^docker-[\d.]+\.tgz$/,
  all('docker/', 'containerd containerd-shim-runc-v2 ctr docker docker-init docker-proxy dockerd runc'),
];
export const cniLayout: Layout = [
  /^cni-plugins-/,
  all(
    './',
    'bandwidth bridge dhcp dummy firewall host-device host-local ipvlan loopback macvlan portmap ptp sbr static tap tuning vlan vrf LICENSE README.md',
  ),
];

const GUEST = 'opt/kata/share/kata-containers/';
/** kata-static 4.2.0: what is used, and one file of each kind that is left out. */
export const kataLayouts: readonly Layout[] = ['x86_64', 'aarch64'].map((machine) => [
  machine === 'x86_64' ? /^kata-static-.*-amd64\./ : /^kata-static-.*-arm64\./,
  [
    ...all('opt/kata/', 'VERSION versions.yaml runtime-rs/bin/containerd-shim-kata-v2 libexec/virtiofsd'),
    ...all('opt/kata/bin/', `cloud-hypervisor stratovirt qemu-system-${machine} qemu-system-${machine}-snp-experimental`),
    'opt/kata/share/defaults/kata-containers/runtime-rs/configuration-qemu-runtime-rs.toml',
    ...all('opt/kata/share/kata-qemu/qemu/', 'bios-256k.bin efi-virtio.rom linuxboot_dma.bin keymaps/de'),
    ...['vmlinux', 'vmlinuz'].flatMap((kind) => [
      ...['', '-confidential', '-dragonball-experimental', '-nvidia-gpu'].map((other) => `${GUEST}${kind}-6.18.35-190${other}`),
      `${GUEST}${kind}.container -> ${kind}-6.18.35-190`,
    ]),
    ...all(
      GUEST,
      'kata-ubuntu-noble.image kata-ubuntu-noble-confidential.image kata-ubuntu-noble-nvidia-gpu.image kata-alpine-3.22.initrd',
    ),
    `${GUEST}kata-containers.img -> kata-ubuntu-noble.image`,
  ],
]);
