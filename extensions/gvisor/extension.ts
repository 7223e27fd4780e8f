import { containerdConf, containerdConfWaiver } from '@flatcar/components';
import { defineExtension, github } from '@flatcar/core';

const gvisor = github('google/gvisor', 'newest', { tagPrefix: 'release-' });

export default defineExtension({
  name: 'gvisor',
  summary: 'gVisor, a kernel in user space, as a runtime of containerd',
  versions: gvisor,
  components: (v) => [
    {
      name: 'gvisor',
      version: v.version,
      origins: [gvisor.asset('gvisor-{machine}.tar.bz2', { checksum: 'SHA512SUMS' })],
      // runsc starts its sidecars from its own folder, and their set changes between releases.
      install: [{ from: '**', to: 'usr/lib/gvisor/' }],
      noSource: 'its sidecars are built by Bazel only; the Go module has runsc without them',
    },
    containerdConf,
  ],
  requiredPaths: ['usr/bin/runsc', 'usr/bin/containerd-shim-runsc-v1', 'usr/lib/gvisor/gvisor-bin'],
  waive: containerdConfWaiver,
});
