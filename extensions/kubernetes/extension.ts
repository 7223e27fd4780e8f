import { cniPlugins, cniReleases } from '@flatcar/components';
import { binary, defineExtension, github, go, upstream, type Signature } from '@flatcar/core';

const cri = github('kubernetes-sigs/cri-tools', 'same minor');

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
export default defineExtension({
  name: 'kubernetes',
  summary: 'kubelet, kubeadm, kubectl, crictl and the CNI plugins',
  versions: { kind: 'kubernetes', url: 'https://dl.k8s.io/release', track: '3 minors' },
  coupled: { cri, cni: cniReleases },
  components: (v) => [
    ...['kubelet', 'kubeadm', 'kubectl'].map((name) =>
      binary(
        name,
        v.version,
        upstream(`https://dl.k8s.io/v{version}/bin/linux/{arch}/${name}`, { checksum: '{url}.sha256', signature }),
        go('k8s.io/kubernetes', `cmd/${name}`, { stamps, stagingVersion: 'v0.{minor}.{patch}' }),
      ),
    ),
    binary(
      'crictl',
      v.cri,
      cri.asset('crictl-v{version}-linux-{arch}.tar.gz', { checksum: '{url}.sha256' }),
      go('sigs.k8s.io/cri-tools', 'cmd/crictl', { stamps: { 'sigs.k8s.io/cri-tools/pkg/version.Version': '{version}' } }),
    ),
    cniPlugins(v.cni),
  ],
  // Not kubelet.service itself: it would fail every ten seconds until kubeadm has run.
  start: ['kubernetes-sysctl.service', 'kubelet.path'],
  essential: true,
  follow: 'minor',
  // Flatcar contains one, which is usually older than the cluster.
  replaces: ['usr/bin/crictl'],
});
