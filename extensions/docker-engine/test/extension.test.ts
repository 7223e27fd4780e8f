import { expect, expectContainers, testExtension, testUpstream } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['docker', '--version'], says: 'version' },
    { run: ['dockerd', '--version'], says: 'version' },
    { run: ['docker-proxy', '--version'], says: 'version' },
    { run: ['docker-init', '--version'], says: { version: 'tini' } },
    { run: ['/usr/libexec/docker/cli-plugins/docker-buildx', 'version'], says: { version: 'buildx' } },
    { run: ['/usr/libexec/docker/cli-plugins/docker-compose', 'version'], says: { version: 'compose' } },
  ],
  units: ['docker.socket'],
  // The stand-in for Flatcar has no containerd.
  machine: { beside: ['containerd'], active: ['docker.socket'], also: (machine) => expectContainers(machine, { docker: true }) },
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
