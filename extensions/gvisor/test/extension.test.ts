import { expect, expectContainers, testUpstream } from '@flatcar/testing';
import { SIDECARS } from './upstream-layout.ts';

// Its source route is Bazel's, which no package registry serves.
testUpstream(import.meta.dirname, {
  machine: {
    beside: ['containerd'],
    answers: [{ run: 'runsc --version', says: /^runsc version release-/ }],
    also: (machine) => expectContainers(machine, { ctr: ['runsc'] }),
  },
  programs: ['/usr/bin/runsc', '/usr/bin/containerd-shim-runsc-v1'],
  paths: ['/usr/share/containerd/conf.d/50-gvisor.toml', '/usr/lib/containerd-conf/make-config'],
  async also(host) {
    // runsc looks for its sidecars beside the file that it was started from, links followed.
    const real = await host.run(['readlink', '-f', '/usr/bin/runsc']);
    expect(real).toBe('/usr/lib/gvisor/runsc');
    for (const name of SIDECARS) expect(await host.run([`/usr/lib/gvisor/gvisor-bin/${name}`])).toMatch(new RegExp(`^${name} of upstream`));
  },
});
