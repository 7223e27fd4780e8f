import { expect, testUpstream } from '@flatcar/testing';

const firmware = ['hypervisor-fw', 'CLOUDHV.fd'].map((name) => `/usr/share/cloud-hypervisor/${name}`);

// Upstream cannot be reached from where only package registries are: stand-ins of its names are served.
testUpstream(import.meta.dirname, {
  machine: { answers: [{ run: 'cloud-hypervisor --version', says: /^cloud-hypervisor v\d/ }] },
  programs: ['/usr/bin/cloud-hypervisor', '/usr/bin/ch-remote'],
  paths: firmware,
  async also(host) {
    expect(await host.run(['stat', '-c', '%a', ...firmware]), 'firmware is data').toBe('644\n644');
  },
});
