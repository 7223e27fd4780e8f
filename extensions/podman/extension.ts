import { defineExtension, github } from '@flatcar/core';

const podman = github('mgoltzsche/podman-static');

export default defineExtension({
  name: 'podman',
  summary: 'podman with crun, conmon, netavark, aardvark-dns, pasta and catatonit, all static',
  versions: podman,
  components: (v) => [
    {
      name: 'podman-static',
      version: v.version,
      origins: [podman.asset('podman-linux-{arch}.tar.gz', { checksum: 'github' })],
      // Its helpers stay in a folder of their own: docker, containerd and crun bring other versions of the same programs.
      install: [
        { from: 'podman-linux-*/usr/local/bin/podman', to: 'usr/bin/' },
        ...['crun', 'pasta', 'pasta.avx2'].map((name) => ({ from: name, to: 'usr/lib/podman/' })),
        { from: 'podman-linux-*/usr/local/lib/podman/*', to: 'usr/lib/podman/' },
        { from: 'quadlet', to: 'usr/libexec/podman/' },
      ],
      noSource: 'a bundle of static musl programs; netavark, pasta and conmon are on no package registry in its versions',
    },
  ],
  start: ['podman.socket'],
});
