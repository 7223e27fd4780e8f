import { github, source, type Component } from '@flatcar/core';

/** Releases of tini. */
export const tiniReleases = github('krallin/tini');

/** docker-init. */
export function tini(version: string): Component {
  return {
    name: 'tini',
    version,
    origins: [
      tiniReleases.asset('tini-static-{arch}', { checksum: '{url}.sha256sum' }),
      source('pool/main/t/tini/tini_{version}.orig.tar.gz', 'build.sh'),
    ],
    install: [{ from: 'tini', to: 'usr/bin/docker-init' }],
    lock: import.meta.dirname,
  };
}
