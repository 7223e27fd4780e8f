import { github, go, type Component } from '@flatcar/core';
import { dockerBuilderSignature } from '../lib/workflow-signature.ts';

/** Releases of Docker Compose. */
export const composeReleases = github('docker/compose');

/** The `docker compose` command. */
export function compose(version: string): Component {
  return {
    name: 'docker-compose',
    version,
    origins: [
      composeReleases.asset('docker-compose-linux-{machine}', {
        checksum: '{url}.sha256',
        signature: dockerBuilderSignature('https://github.com/docker/compose'),
      }),
      go('github.com/docker/compose/v5', 'cmd', {
        rename: { cmd: 'docker-compose' },
        stamps: { 'github.com/docker/compose/v5/internal.Version': 'v{version}' },
      }),
    ],
    install: [{ from: 'docker-compose', to: 'usr/libexec/docker/cli-plugins/' }],
    lock: import.meta.dirname,
  };
}
