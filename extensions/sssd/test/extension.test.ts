import { buildImages, catalogue, channelHead, expect, hostArch, linkName, mergeTest, testRelocated, withHost } from '@flatcar/testing';

const stable = channelHead('stable');
const folder = '/usr/lib/sssd';

/** A user that only sssd knows, out of a file of its own. */
const CONFIGURE = `
set -e
mkdir -p /run/users
echo 'alice:x:4711:4711:Alice:/home/alice:/bin/sh' >/run/users/passwd
echo 'alice:x:4711:' >/run/users/group
cat >/etc/sssd/sssd.conf <<'END'
[sssd]
services = nss
domains = local
[domain/local]
id_provider = proxy
proxy_lib_name = files
proxy_fast_alias = true
auth_provider = none
END
chmod 600 /etc/sssd/sssd.conf
cat /run/users/passwd >>/etc/passwd
cat /run/users/group >>/etc/group
`;

testRelocated(import.meta.dirname, {
  folder,
  tls: 'what it says of a directory takes a configuration: see login.test.ts',
  target: stable,
  machine: {
    async also(machine) {
      await machine.run(`${CONFIGURE}systemctl restart sssd.service`);
      // Debian's C library looks elsewhere than Flatcar's, which is what the variable is for.
      expect(await machine.until('LD_LIBRARY_PATH=/usr/lib64 getent -s sss passwd alice')).toContain('alice:*:4711:4711:Alice');
      expect(await machine.run('systemctl is-active sssd.service')).toBe('active');
    },
  },
  commands: [
    { run: ['sssd', '--version'], says: 'version' },
    { run: ['sssctl', '--help'], says: /Usage:/ },
    { run: ['sss_cache', '--help'], says: /Usage:/ },
    { run: ['sss_ssh_authorizedkeys', '--help'], says: /Usage:/ },
    { run: ['adcli', 'info', '--help'], says: /usage: adcli info/ },
    ...['be', 'nss', 'pam', 'sudo', 'ssh', 'autofs', 'pac'].map((name) => ({
      run: [`/usr/libexec/sssd/sssd_${name}`, '--help'],
      says: /Usage:/,
    })),
    ...['krb5', 'ldap', 'gpo', 'proxy', 'p11'].map((name) => ({
      run: name === 'p11' ? ['/usr/libexec/sssd/p11_child', '--help'] : [`/usr/libexec/sssd/${name}_child`, '--help'],
      says: /Usage:/,
    })),
  ],
});

/** Asks it, without systemd. */
const START = `systemd-tmpfiles --create sssd.conf
${CONFIGURE}sssd -i --logger=stderr >/run/sssd.log 2>&1 &
for _ in $(seq 200); do [ -S /var/lib/sss/pipes/nss ] && break; sleep 0.1; done
sleep 1
LD_LIBRARY_PATH=/usr/lib64 getent -s sss passwd alice || { cat /run/sssd.log; cat /var/log/sssd/*.log | tail -40; }
kill %1
wait || true
`;

mergeTest("the host's getent asks sssd by the module that runs on the host's own C library", async () => {
  const [image] = await buildImages(import.meta.dirname, hostArch(), [stable]);
  await withHost({ release: stable.number }, async (host) => {
    await host.install(image?.file ?? '', linkName('sssd', stable));
    expect(
      await host.run(['sh', '-c', 'LD_LIBRARY_PATH=/usr/lib64 getent -s sss passwd alice; echo $?']),
      'without it there is no such user',
    ).toBe('2');
    expect(await host.merge()).toContain("Using extensions 'sssd");
    // Debian's C library looks elsewhere than Flatcar's, which is what the variable is for.
    expect(await host.run(['sh', '-c', START])).toContain('alice:*:4711:4711:Alice:/home/alice:/bin/sh');
    expect(await host.run(['systemd-analyze', 'verify', '--man=no', 'sssd.service'])).toBe('');
    expect(await host.exists('/usr/lib64/security/pam_sss.so')).toBe(true);
  });
});

mergeTest('is bound to releases, by the C library that they have', async () => {
  await expect(buildImages(import.meta.dirname, hostArch(), ['portable'])).rejects.toThrow('has no portable image');
  const oldest = catalogue().find(({ glibc }) => glibc === '2.38') ?? stable;
  const images = await buildImages(import.meta.dirname, hostArch(), [oldest]);
  expect(images.map(({ target }) => target)).toEqual([oldest.number]);
  const old = { ...oldest, glibc: '2.36' };
  await expect(buildImages(import.meta.dirname, hostArch(), [old])).rejects.toThrow(/lint found|needs/);
});
