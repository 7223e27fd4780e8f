// What upstreams' archives hold, for the tests that serve their like (testUpstream).
const all = (folder: string, names: string): string[] => names.split(' ').map((name) => `${folder}${name}`);
type Layout = readonly [name: RegExp, members: readonly string[]];

export const containerdLayout: Layout = [/^containerd-static-/, all('bin/', 'containerd containerd-shim-runc-v2 containerd-stress ctr')];
// Its containerd and runc are not taken: those of the shared locks are.
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
