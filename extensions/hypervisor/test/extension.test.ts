import { expect, expectOwnObjects, testUpstream, traced } from '@flatcar/testing';

const folder = '/usr/lib/hypervisor-qemu';

// Of the parts, those of Debian are the real ones; what upstream publishes on hosts that cannot be reached here is stood in for.
testUpstream(import.meta.dirname, {
  programs: ['/usr/bin/cloud-hypervisor', '/usr/bin/ch-remote', '/usr/bin/containerd-shim-kata-v2'],
  paths: ['/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/lib/systemd/system/qemu-binfmt.service', '/usr/share/containerd/conf.d/50-kata.toml'],
  async also(host) {
    const { said, objects } = await traced(host, ['qemu-img', '--version'], folder);
    expect(said).toMatch(/^qemu-img version \d/);
    expectOwnObjects(objects, folder, 'qemu-img');
    expect(await host.run(['qemu-riscv64', '--version'])).toMatch(/^qemu-riscv64 version \d/);
  },
});
