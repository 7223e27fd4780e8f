import { testUpstream } from '@flatcar/testing';

const CONTAINERD = ['containerd', 'containerd-shim-runc-v2', 'ctr'];
const DOCKER = ['docker', 'docker-init', 'docker-proxy', 'dockerd'];

testUpstream(import.meta.dirname, {
  programs: [
    ...[...CONTAINERD, ...DOCKER, 'runc'].map((name) => `/usr/bin/${name}`),
    ...['docker-buildx', 'docker-compose'].map((name) => `/usr/libexec/docker/cli-plugins/${name}`),
  ],
});
