import { github, go, type Component } from '@flatcar/core';
import { dockerBuilderSignature } from '../lib/workflow-signature.ts';

/** Releases of Docker's buildx. */
export const buildxReleases = github('docker/buildx');

/** The `docker buildx` command. */
export function buildx(version: string): Component {
  return {
    name: 'docker-buildx',
    version,
    origins: [
      buildxReleases.asset('buildx-v{version}.linux-{arch}', {
        checksum: 'checksums.txt',
        signature: dockerBuilderSignature('https://github.com/docker/buildx'),
      }),
      go('github.com/docker/buildx', 'cmd/buildx', {
        rename: { 'cmd/buildx': 'docker-buildx' },
        stamps: { 'github.com/docker/buildx/version.Version': 'v{version}' },
      }),
    ],
    install: [{ from: 'docker-buildx', to: 'usr/libexec/docker/cli-plugins/' }],
    lock: import.meta.dirname,
  };
}
