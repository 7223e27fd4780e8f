import { expectContainers, testExtension, testUpstream } from '@flatcar/testing';

// Compiled here is the version that Debian's stable release keeps the source of; sources of its development branch are gone
// from the archive with their next upload.
testExtension(import.meta.dirname, {
  version: '1.21',
  origin: 'source',
  commands: [
    { run: ['crun', '--version'], says: 'version' },
    { run: ['crun', '--version'], says: /\+SECCOMP/ },
  ],
  paths: ['/usr/share/containerd/conf.d/50-crun.toml', '/usr/lib/containerd-conf/make-config'],
  machine: { beside: ['containerd'], also: (machine) => expectContainers(machine, { ctr: ['crun'] }) },
});

testUpstream(import.meta.dirname, { programs: ['/usr/bin/crun'] });
