import { expectOwnPluginsStay, testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    {
      run: ['/usr/lib/cni/bridge'],
      env: { CNI_COMMAND: 'VERSION', CNI_NETNS: '', CNI_CONTAINERID: '', CNI_IFNAME: '', CNI_PATH: '' },
      says: /"supportedVersions"/,
    },
  ],
  paths: ['/opt/cni/bin/bridge', '/opt/cni/bin/vrf', '/etc/cni/net.d'],
  also: expectOwnPluginsStay,
});
