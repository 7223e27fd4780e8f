import { expect, expectContainers, testExtension, testUpstream } from '@flatcar/testing';

const version = { CNI_COMMAND: 'VERSION', CNI_NETNS: '', CNI_CONTAINERID: '', CNI_IFNAME: '', CNI_PATH: '' };

testExtension(import.meta.dirname, {
  commands: [
    { run: ['nerdctl', '--version'], says: 'version' },
    { run: ['/usr/lib/cni/bridge'], env: version, says: /"supportedVersions"/ },
    { run: ['/usr/lib/cni/portmap'], env: version, says: /"supportedVersions"/ },
  ],
  paths: ['/etc/nerdctl/nerdctl.toml'],
  machine: { beside: ['containerd'], also: (machine) => expectContainers(machine, { nerdctl: true }) },
  async also(host) {
    expect(await host.run(['cat', '/etc/nerdctl/nerdctl.toml'])).toContain('cni_path = "/usr/lib/cni"');
  },
});

testUpstream(import.meta.dirname, {
  small: true,
  programs: ['/usr/bin/nerdctl', '/usr/lib/cni/bridge', '/usr/lib/cni/vrf'],
});
