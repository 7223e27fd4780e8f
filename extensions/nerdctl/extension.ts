import { cniPlugins, cniReleases } from '@flatcar/components';
import { binary, defineExtension, github, go } from '@flatcar/core';

const nerdctl = github('containerd/nerdctl');
const module = 'github.com/containerd/nerdctl/v2';

export default defineExtension({
  name: 'nerdctl',
  summary: 'nerdctl, a Docker-compatible command line for containerd, with the CNI plugins',
  versions: nerdctl,
  coupled: { cni: cniReleases },
  components: (v) => [
    binary(
      'nerdctl',
      v.version,
      nerdctl.asset('nerdctl-{version}-linux-{arch}.tar.gz', { checksum: 'SHA256SUMS' }),
      go(module, 'cmd/nerdctl', {
        exclude: ['cmd/nerdctl/helpers/testing.go', 'cmd/nerdctl/helpers/testing_linux.go'],
        stamps: { [`${module}/pkg/version.Version`]: 'v{version}' },
      }),
    ),
    cniPlugins(v.cni),
  ],
});
