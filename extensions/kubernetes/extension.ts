import { binary, defineExtension, github, go, release, type Signature } from '@flatcar/core';

const cri = github('kubernetes-sigs/cri-tools', 'same minor');
const cni = github('containernetworking/plugins');

// Signed by Kubernetes' release process (kubernetes.io/docs/tasks/administer-cluster/verify-signed-artifacts).
const signature: Signature = {
  kind: 'sigstore',
  issuer: 'https://accounts.google.com',
  identity: 'krel-staging@k8s-releng-prod.iam.gserviceaccount.com',
  signature: '{url}.sig',
  certificate: '{url}.cert',
};

// As upstream's hack/lib/version.sh stamps them; the commit and the date are not known from the module proxy.
const version = { gitVersion: 'v{version}', gitMajor: '{major}', gitMinor: '{minor}' };
const stamps = Object.fromEntries(
  Object.entries(version).flatMap(([key, value]) =>
    ['k8s.io/component-base', 'k8s.io/client-go/pkg'].map((path) => [`${path}/version.${key}`, value]),
  ),
);
const plugins =
  'bandwidth bridge dhcp dummy firewall host-device host-local ipvlan loopback macvlan portmap ptp sbr static tap tuning vlan vrf';

export default defineExtension({
  name: 'kubernetes',
  summary: 'kubelet, kubeadm, kubectl, crictl and the CNI plugins',
  versions: { kind: 'kubernetes', at: 'https://dl.k8s.io/release', keep: '3 minors' },
  coupled: { cri, cni },
  components: (v) => [
    ...['kubelet', 'kubeadm', 'kubectl'].map((name) =>
      binary(
        name,
        v.version,
        release(`https://dl.k8s.io/v{version}/bin/linux/{arch}/${name}`, { checksum: '{url}.sha256', signature }),
        go('k8s.io/kubernetes', `cmd/${name}`, { stamps, local: 'v0.{minor}.{patch}' }),
      ),
    ),
    binary(
      'crictl',
      v.cri,
      cri.asset('crictl-v{version}-linux-{arch}.tar.gz', { checksum: '{url}.sha256' }),
      go('sigs.k8s.io/cri-tools', 'cmd/crictl', { stamps: { 'sigs.k8s.io/cri-tools/pkg/version.Version': '{version}' } }),
    ),
    {
      name: 'cni-plugins',
      version: v.cni,
      origins: [
        cni.asset('cni-plugins-linux-{arch}-v{version}.tgz', { checksum: '{url}.sha256' }),
        go('github.com/containernetworking/plugins', ['plugins/main/*', 'plugins/ipam/*', 'plugins/meta/*'], {
          stamps: { 'github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion': 'v{version}' },
        }),
      ],
      places: plugins.split(' ').map((from) => ({ from, to: 'usr/lib/cni/' })),
    },
  ],
  // Not kubelet.service itself: it would fail every ten seconds until kubeadm has run.
  start: ['kubelet.path'],
});
