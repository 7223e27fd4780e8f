import { expectContainers, testExtension, testUpstream } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['containerd', '--version'], says: /^containerd github\.com\/containerd\/containerd\/v2 v2\.4\.1/ },
    { run: ['ctr', '--version'], says: 'version' },
    { run: ['containerd-shim-runc-v2', '-v'], says: /Version: +v2\.4\.1/ },
    // The one that this containerd's own tag asks for, with seccomp linked in.
    { run: ['runc', '--version'], says: /^runc version 1\.5\.1\n[^]*libseccomp: \d/ },
  ],
  units: ['containerd.service'],
  paths: ['/usr/share/containerd/config.toml', '/usr/lib/containerd-conf/make-config'],
  machine: { active: ['containerd.service'], also: (machine) => expectContainers(machine, { ctr: ['runc'] }) },
});

testUpstream(import.meta.dirname, {
  programs: ['containerd', 'containerd-shim-runc-v2', 'ctr', 'runc'].map((name) => `/usr/bin/${name}`),
});
