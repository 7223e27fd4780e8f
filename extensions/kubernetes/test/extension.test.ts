import { expectOwnPluginsStay, testExtension, testUpstream } from '@flatcar/testing';
import { runStaticPod } from './static-pod.ts';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['kubelet', '--version'], says: 'version' },
    { run: ['kubeadm', 'version', '-o', 'short'], says: 'version' },
    { run: ['kubectl', 'version', '--client'], says: 'version' },
    { run: ['crictl', '--version'], says: { version: 'cri' } },
    {
      run: ['/usr/lib/cni/bridge'],
      env: { CNI_COMMAND: 'VERSION', CNI_NETNS: '', CNI_CONTAINERID: '', CNI_IFNAME: '', CNI_PATH: '' },
      says: /"supportedVersions"/,
    },
  ],
  units: ['kubelet.service', 'kubelet.path', 'kubernetes-sysctl.service'],
  paths: ['/opt/cni/bin/bridge', '/opt/cni/bin/vrf', '/etc/kubernetes/manifests', '/var/lib/kubelet/volume-plugins'],
  also: expectOwnPluginsStay,
  machine: { beside: ['containerd'], whenBuilt: true, active: ['kubernetes-sysctl.service', 'kubelet.path'], also: runStaticPod },
});

testUpstream(import.meta.dirname, {
  programs: ['/usr/bin/kubelet', '/usr/bin/kubeadm', '/usr/bin/kubectl', '/usr/bin/crictl', '/usr/lib/cni/bridge'],
});
