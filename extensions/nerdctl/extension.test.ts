import { testUpstream } from '@flatcar/testing';

testUpstream(import.meta.dirname, {
  programs: ['/usr/bin/nerdctl', '/usr/lib/cni/bridge', '/usr/lib/cni/vrf'],
});
