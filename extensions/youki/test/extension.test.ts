import { expect, expectContainers, hostArch, testExtension, testUpstream, versionPattern } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [],
  paths: ['/usr/bin/youki', '/usr/share/containerd/conf.d/50-youki.toml', '/usr/lib/containerd-conf/make-config'],
  // It runs a sealed copy of itself out of memory, which qemu-user cannot open: on its own architecture only.
  also: async (host, arch, { version }) => {
    if (arch === hostArch()) expect(await host.run(['youki', '--version'])).toMatch(versionPattern(version));
  },
  machine: { beside: ['containerd'], also: (machine) => expectContainers(machine, { ctr: ['youki'] }) },
});

testUpstream(import.meta.dirname, {
  programs: ['/usr/bin/youki'],
});
