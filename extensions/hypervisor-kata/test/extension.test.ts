import { expect, testUpstream } from '@flatcar/testing';

const root = '/usr/lib/kata';

// Upstream cannot be reached from where only package registries are: files of its layout stand in for its archive.
testUpstream(import.meta.dirname, {
  machine: { answers: [{ run: 'containerd-shim-kata-v2 --version', says: /containerd.shim.*\d/i }] },
  programs: ['/usr/bin/containerd-shim-kata-v2', `${root}/bin/cloud-hypervisor`, `${root}/libexec/virtiofsd`],
  paths: ['/usr/share/containerd/conf.d/50-kata.toml', '/usr/lib/containerd-conf/make-config'],
  async also(host) {
    expect(await host.exists('/opt/kata'), 'nothing is in /opt').toBe(false);
    // All that the configurations name is there, and no kernel, image or hypervisor besides.
    const configurations = await host.run(['sh', '-c', 'cat /usr/share/defaults/kata-containers/runtime-rs/*.toml']);
    expect(configurations).not.toContain('"/opt');
    const named = new Set([...configurations.matchAll(/"(\/usr\/[^"]+)"/g)].map(([, path = '']) => path));
    expect(named.size).toBeGreaterThan(4);
    for (const path of named) expect(await host.exists(path), path).toBe(true);
    const files = await host.run(['find', root, '-type', 'f']);
    expect(files.split('\n').filter((path) => /confidential|nvidia|experimental|stratovirt|initrd/.test(path))).toEqual([]);
    // Its QEMU looks below `qemu-bundle` beside it for the path that is compiled in.
    expect(await host.exists(`${root}/bin/qemu-bundle/opt/kata/share/kata-qemu/qemu/bios-256k.bin`)).toBe(true);
    const shims = await host.run(['sh', '-c', 'cat /usr/share/containerd/conf.d/50-kata.toml']);
    for (const [, path = ''] of shims.matchAll(/ConfigPath = "([^"]+)"/g)) expect(await host.exists(path), path).toBe(true);
  },
});
