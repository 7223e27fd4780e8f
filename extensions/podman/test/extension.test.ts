import { expect, testUpstream } from '@flatcar/testing';

const HELPERS = ['conmon', 'netavark', 'aardvark-dns', 'catatonit', 'rootlessport', 'crun', 'pasta', 'pasta.avx2'];

testUpstream(import.meta.dirname, {
  machine: { active: ['podman.socket'], answers: [{ run: 'podman info --format "{{.Host.OCIRuntime.Name}}"', says: /^crun$/ }] },
  programs: ['/usr/bin/podman', '/usr/libexec/podman/quadlet', ...HELPERS.map((name) => `/usr/lib/podman/${name}`)],
  paths: ['/etc/containers/policy.json', '/etc/containers/registries.conf', '/run/podman'],
  async also(host) {
    // Nothing of /usr/local, and no runc or crun where other extensions have theirs.
    for (const path of ['/usr/local/bin/podman', '/usr/bin/crun', '/usr/bin/runc']) expect(await host.exists(path), path).toBe(false);
    const conf = await host.run(['cat', '/usr/share/containers/containers.conf']);
    expect(conf).not.toContain('/usr/local');
    for (const [path] of conf.matchAll(/\/usr\/[^"]+/g)) expect(await host.exists(path), path).toBe(true);
    // quadlet runs as a generator of both managers.
    for (const manager of ['system', 'user'])
      expect(await host.run([`/usr/lib/systemd/${manager}-generators/podman-${manager}-generator`])).toMatch(/^quadlet of upstream/);
    expect(await host.run(['systemd-analyze', 'verify', '--man=no', 'podman.socket', 'podman.service'])).toBe('');
  },
});
