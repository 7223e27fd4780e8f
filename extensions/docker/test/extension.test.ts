import { expectContainers, testExtension, testUpstream } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['docker', '--version'], says: 'version' },
    { run: ['dockerd', '--version'], says: 'version' },
    { run: ['docker-proxy', '--version'], says: 'version' },
    { run: ['docker-init', '--version'], says: { version: 'tini' } },
    { run: ['/usr/libexec/docker/cli-plugins/docker-buildx', 'version'], says: { version: 'buildx' } },
    { run: ['/usr/libexec/docker/cli-plugins/docker-compose', 'version'], says: { version: 'compose' } },
    { run: ['containerd', '--version'], says: { version: 'containerd' } },
    { run: ['runc', '--version'], says: { version: 'runc' } },
  ],
  machine: {
    active: ['docker.socket', 'containerd.service'],
    also: (machine) => expectContainers(machine, { ctr: ['runc'], docker: true }),
  },
  units: ['docker.service', 'docker.socket', 'containerd.service'],
  paths: ['/usr/share/containerd/config.toml'],
});

const CONTAINERD = ['containerd', 'containerd-shim-runc-v2', 'ctr'];
const DOCKER = ['docker', 'docker-init', 'docker-proxy', 'dockerd'];

testUpstream(import.meta.dirname, {
  programs: [
    ...[...CONTAINERD, ...DOCKER, 'runc'].map((name) => `/usr/bin/${name}`),
    ...['docker-buildx', 'docker-compose'].map((name) => `/usr/libexec/docker/cli-plugins/${name}`),
  ],
});
