import { expectContainers, testExtension, testUpstream } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['containerd', '--version'], says: 'version' },
    { run: ['ctr', '--version'], says: 'version' },
    { run: ['containerd-shim-runc-v2', '-v'], says: 'version' },
    // Seccomp is linked in.
    { run: ['runc', '--version'], says: { version: 'runc' } },
    { run: ['runc', '--version'], says: /libseccomp: \d/ },
  ],
  units: ['containerd.service'],
  paths: ['/usr/share/containerd/config.toml', '/usr/lib/containerd-conf/make-config'],
  machine: { active: ['containerd.service'], also: (machine) => expectContainers(machine, { ctr: ['runc'] }) },
});

testUpstream(import.meta.dirname, {
  programs: ['containerd', 'containerd-shim-runc-v2', 'ctr', 'runc'].map((name) => `/usr/bin/${name}`),
});
