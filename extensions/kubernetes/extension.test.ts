import { testExtension, testUpstream } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['kubelet', '--version'], says: /^Kubernetes v1\.37\.0$/m },
    { run: ['kubeadm', 'version', '-o', 'short'], says: /^v1\.37\.0$/m },
    { run: ['kubectl', 'version', '--client'], says: /Client Version: v1\.37\.0/ },
    { run: ['crictl', '--version'], says: /crictl version v?1\.36\.0/ },
    {
      run: ['/usr/lib/cni/bridge'],
      env: { CNI_COMMAND: 'VERSION', CNI_NETNS: '', CNI_CONTAINERID: '', CNI_IFNAME: '', CNI_PATH: '' },
      says: /"supportedVersions"/,
    },
  ],
  units: ['kubelet.service', 'kubelet.path'],
  paths: ['/opt/cni/bin/bridge', '/opt/cni/bin/vrf', '/etc/kubernetes/manifests', '/var/lib/kubelet/volume-plugins'],
});

testUpstream(import.meta.dirname, {
  programs: ['/usr/bin/kubelet', '/usr/bin/kubeadm', '/usr/bin/kubectl', '/usr/bin/crictl', '/usr/lib/cni/bridge'],
});
