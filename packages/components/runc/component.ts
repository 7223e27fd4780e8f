import { github, go, type Component, type PgpSignature } from '@flatcar/core';

/** runc's releases. A containerd names the one that it wants in script/setup/runc-version of its tag. */
export const runcReleases = github('opencontainers/runc');

/** runc's maintainers, from the keyring in its repository: Aleksa Sarai, Kir Kolyshkin, Akihiro Suda. */
const MAINTAINERS: PgpSignature = {
  kind: 'pgp',
  keys: 'keys/runc.keyring',
  fingerprints: [
    'C9C370B246B09F6DBCFC744C34401015D1D2D386',
    'C2428CD75720FACDCF76B6EA17DE5ECB75A1100E',
    'C020EA876CE4E06C7AB95AEF49524C6F9F638F1A',
  ],
};

/** The OCI runtime of containerd and docker. */
export function runc(version: string): Component {
  return {
    name: 'runc',
    version,
    origins: [
      runcReleases.asset('runc.{arch}', {
        checksum: 'runc.sha256sum',
        signature: [
          { ...MAINTAINERS, of: 'checksum' },
          { ...MAINTAINERS, url: '{url}.asc' },
        ],
      }),
      go('github.com/opencontainers/runc', '', { tags: ['seccomp'], cgo: true, stamps: { 'main.version': '{version}' } }),
    ],
    install: [{ from: 'runc', to: 'usr/bin/' }],
    lock: import.meta.dirname,
  };
}
