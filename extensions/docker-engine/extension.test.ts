import { expect, testExtension, testUpstream } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['docker', '--version'], says: /^Docker version 29\.8\.1/ },
    { run: ['dockerd', '--version'], says: /^Docker version 29\.8\.1/ },
    { run: ['docker-proxy', '--version'], says: /docker-proxy .*29\.8\.1/ },
    { run: ['docker-init', '--version'], says: /^tini version 0\.19\.0/ },
    { run: ['/usr/libexec/docker/cli-plugins/docker-buildx', 'version'], says: /buildx v0\.38\.0/ },
    { run: ['/usr/libexec/docker/cli-plugins/docker-compose', 'version'], says: /v5\.6\.0/ },
  ],
  units: ['docker.socket'],
  async also(host) {
    // Flatcar's own stay what they are.
    for (const path of ['/usr/bin/containerd', '/usr/bin/runc', '/usr/lib/systemd/system/containerd.service'])
      expect(await host.exists(path), path).toBe(false);
  },
});

const DOCKER = ['docker', 'docker-init', 'docker-proxy', 'dockerd'];

testUpstream(import.meta.dirname, {
  programs: [
    ...DOCKER.map((name) => `/usr/bin/${name}`),
    ...['docker-buildx', 'docker-compose'].map((name) => `/usr/libexec/docker/cli-plugins/${name}`),
  ],
});
