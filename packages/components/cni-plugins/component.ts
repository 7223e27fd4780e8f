import { github, go, type Component } from '@flatcar/core';

/** Releases of the CNI reference plugins. */
export const cniReleases = github('containernetworking/plugins');

const PLUGINS =
  'bandwidth bridge dhcp dummy firewall host-device host-local ipvlan loopback macvlan portmap ptp sbr static tap tuning vlan vrf';

/** The CNI reference plugins, in usr/lib/cni. */
export function cniPlugins(version: string): Component {
  return {
    name: 'cni-plugins',
    version,
    origins: [
      cniReleases.asset('cni-plugins-linux-{arch}-v{version}.tgz', { checksum: '{url}.sha256' }),
      go('github.com/containernetworking/plugins', ['plugins/main/*', 'plugins/ipam/*', 'plugins/meta/*'], {
        stamps: { 'github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion': 'v{version}' },
      }),
    ],
    install: PLUGINS.split(' ').map((from) => ({ from, to: 'usr/lib/cni/' })),
    lock: import.meta.dirname,
  };
}
