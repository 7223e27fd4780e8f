import { buildxReleases, composeReleases, dockerEngine, dockerReleases, mobyReleases, tiniReleases } from '@flatcar/components';
import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'docker-engine',
  summary: "Docker Engine with its command line, buildx and compose, on Flatcar's own containerd and runc",
  versions: dockerReleases,
  coupled: { moby: mobyReleases, buildx: buildxReleases, compose: composeReleases, tini: tiniReleases },
  components: dockerEngine,
  start: ['docker.socket'],
  essential: true,
  replaces: ['docker', 'dockerd', 'docker-proxy', 'docker-init'].map((name) => `usr/bin/${name}`),
  conflicts: ['docker'],
});
