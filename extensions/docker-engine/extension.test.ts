import { testUpstream } from '@flatcar/testing';

const DOCKER = ['docker', 'docker-init', 'docker-proxy', 'dockerd'];

testUpstream(import.meta.dirname, {
  programs: [
    ...DOCKER.map((name) => `/usr/bin/${name}`),
    ...['docker-buildx', 'docker-compose'].map((name) => `/usr/libexec/docker/cli-plugins/${name}`),
  ],
});
