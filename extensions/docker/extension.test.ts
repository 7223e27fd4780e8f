import { testExtension, testUpstream } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['docker', '--version'], says: /^Docker version 29\.8\.1/ },
    { run: ['dockerd', '--version'], says: /^Docker version 29\.8\.1/ },
    { run: ['docker-proxy', '--version'], says: /docker-proxy .*29\.8\.1/ },
    { run: ['docker-init', '--version'], says: /^tini version 0\.19\.0/ },
    { run: ['/usr/libexec/docker/cli-plugins/docker-buildx', 'version'], says: /buildx v0\.38\.0/ },
    { run: ['/usr/libexec/docker/cli-plugins/docker-compose', 'version'], says: /v5\.6\.0/ },
    { run: ['containerd', '--version'], says: /v2\.3\.6/ },
    { run: ['runc', '--version'], says: /^runc version 1\.5\.2$/m },
  ],
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
