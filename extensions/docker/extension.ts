import {
  buildxReleases,
  composeReleases,
  containerd,
  containerdConf,
  containerdReleases,
  containerdService,
  dockerEngine,
  dockerReleases,
  mobyReleases,
  runc,
  runcReleases,
  tiniReleases,
} from '@flatcar/components';
import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'docker',
  summary: 'Docker Engine with its command line, buildx, compose, containerd and runc',
  versions: dockerReleases,
  coupled: {
    moby: mobyReleases,
    buildx: buildxReleases,
    compose: composeReleases,
    tini: tiniReleases,
    containerd: containerdReleases,
    runc: runcReleases,
  },
  components: (v) => [...dockerEngine(v), containerd(v.containerd), runc(v.runc), containerdService, containerdConf],
  start: ['docker.socket', 'containerd.service'],
  essential: true,
  replaces: ['containerd', 'containerd-shim-runc-v2', 'ctr', 'runc', 'docker', 'dockerd', 'docker-proxy', 'docker-init'].map(
    (name) => `usr/bin/${name}`,
  ),
  conflicts: ['containerd', 'docker-engine'],
});
