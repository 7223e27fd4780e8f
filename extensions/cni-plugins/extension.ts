import { cniPlugins, cniReleases } from '@flatcar/components';
import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'cni-plugins',
  summary: 'the CNI reference plugins, for container runtimes without plugins',
  versions: cniReleases,
  components: ({ version }) => [cniPlugins(version)],
});
