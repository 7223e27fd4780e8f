import { containerd, containerdConf, containerdReleases, containerdService, runc, runcReleases } from '@flatcar/components';
import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'containerd',
  summary: 'containerd with its shim, ctr and runc, replacing the one in Flatcar',
  versions: containerdReleases,
  coupled: { runc: runcReleases },
  components: (v) => [containerd(v.version), runc(v.runc), containerdService, containerdConf],
  start: ['containerd.service'],
  essential: true,
  follow: 'minor',
  replaces: ['usr/bin/containerd', 'usr/bin/containerd-shim-runc-v2', 'usr/bin/ctr', 'usr/bin/runc'],
  // docker contains other versions of containerd and runc.
  conflicts: ['docker'],
});
