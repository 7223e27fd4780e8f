// The README's own sssd.conf against a directory over TLS: users, groups and logins through PAM, by a CA of the host's store and by nothing else.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildImages, channelHead, expect, hostArch, linkName, mergeTest, withHost } from '@flatcar/testing';

const stable = channelHead('stable');
/** A server of OpenLDAP and a small client of PAM, both on the host's own libraries. */
const PACKAGES = ['systemd', 'procps', 'iproute2', 'openssl', 'slapd', 'pamtester'];

/** An authority, the server's certificate, and a directory with one user and one group. */
const DIRECTORY = `
set -e
mkdir -p /run/ldap/db /etc/ssl/certs
cd /run/ldap
export OPENSSL_CONF=/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj '/CN=Test authority' -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.crt 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ldap.example.com -keyout server.key -out server.csr 2>/dev/null
echo subjectAltName=DNS:ldap.example.com >server.ext
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -extfile server.ext -out server.crt 2>/dev/null
for schema in core cosine nis; do echo "include /etc/ldap/schema/$schema.schema"; done >slapd.conf
cat >>slapd.conf <<'END'
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile /run/ldap/pid
TLSCertificateFile /run/ldap/server.crt
TLSCertificateKeyFile /run/ldap/server.key
database mdb
suffix dc=example,dc=com
rootdn cn=admin,dc=example,dc=com
directory /run/ldap/db
access to attrs=userPassword by anonymous auth
access to * by * read
END
slapadd -f slapd.conf <<'END'
dn: dc=example,dc=com
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: uid=alice,dc=example,dc=com
objectClass: account
objectClass: posixAccount
uid: alice
cn: Alice
uidNumber: 4711
gidNumber: 4712
homeDirectory: /home/alice
loginShell: /bin/bash
userPassword: the right one

dn: cn=researchers,dc=example,dc=com
objectClass: posixGroup
cn: researchers
gidNumber: 4712

dn: cn=crew,dc=example,dc=com
objectClass: posixGroup
cn: crew
gidNumber: 4713
memberUid: alice
END
echo 127.0.0.1 ldap.example.com >>/etc/hosts
sed -i 's/^\\(passwd\\|group\\):.*/\\1: files sss/' /etc/nsswitch.conf
# Debian's PAM looks elsewhere than Flatcar's, so the module is named by its path.
printf '%s required /usr/lib64/security/pam_sss.so\n' auth account >/etc/pam.d/demo
# What Flatcar does not have and Debian does: places where OpenSSL and OpenLDAP of Debian would find the store by themselves.
rm -rf /usr/lib/ssl /etc/ldap/ldap.conf /etc/ssl/certs/*
`;

/** Puts the authority into the host's store, as Flatcar has it: a file by its hash, and the bundle. */
const TRUST = `
set -e
cp /run/ldap/ca.crt /etc/ssl/certs/test-authority.pem
ln -s test-authority.pem "/etc/ssl/certs/$(openssl x509 -noout -hash -in /run/ldap/ca.crt).0"
cp /run/ldap/ca.crt /etc/ssl/certs/ca-certificates.crt
`;

/** Runs server and sssd in a network of their own for as long as `script` takes, so that the server has LDAP's own port. */
const session = (script: string): string[] => [
  'unshare',
  '--net',
  'sh',
  '-c',
  `
ip link set lo up
rm -rf /var/lib/sss/db/* /var/lib/sss/mc/* /var/lib/sss/pipes/nss /var/lib/sss/pipes/pam /var/log/sssd/*
slapd -f /run/ldap/slapd.conf -h ldaps://127.0.0.1/ -d none >/run/slapd.log 2>&1 &
server=$!
# With the rights that its unit gives it.
setpriv --no-new-privs --bounding-set="$(sed -n 's/^CapabilityBoundingSet=//p' /usr/lib/systemd/system/sssd.service | tr A-Z a-z | sed 's/ *cap_/,+/g; s/^/-all/')" sssd -i --logger=files >/run/sssd.log 2>&1 &
client=$!
for _ in $(seq 3000); do [ -S /var/lib/sss/pipes/nss ] && [ -S /var/lib/sss/pipes/pam ] && break; sleep 0.1; done
# Debian's C library looks elsewhere than Flatcar's, which is what the variable is for.
export LD_LIBRARY_PATH=/usr/lib64
${script}
kill $server $client
wait
`,
];

const login = (password: string): string => `echo '${password}' | pamtester demo alice authenticate acct_mgmt; echo "login: $?"`;

mergeTest(
  'a user of an LDAP directory over TLS is known and logs in through PAM, where the host trusts the server and only there',
  async () => {
    const [, config] = /```ini\n([^]*?)```/.exec(await readFile(join(import.meta.dirname, '../README.md'), 'utf8')) ?? [];
    if (config === undefined) throw new Error('README.md has no sssd.conf');
    const [image] = await buildImages(import.meta.dirname, hostArch(), [stable]);
    const dir = await mkdtemp(join(tmpdir(), 'sssd-'));
    try {
      await writeFile(join(dir, 'sssd.conf'), config, { mode: 0o600 });
      await withHost({ release: stable.number, root: { packages: PACKAGES } }, async (host) => {
        expect(await host.run(['sh', '-c', DIRECTORY])).not.toMatch(/error|failed/i);
        await host.install(image?.file ?? '', linkName('sssd', stable));
        expect(await host.merge()).toContain("Using extensions 'sssd");
        await host.run(['systemd-tmpfiles', '--create', 'sssd.conf']);
        await host.copyIn(join(dir, 'sssd.conf'), '/etc/sssd/sssd.conf');
        await host.run(['chmod', '600', '/etc/sssd/sssd.conf']);

        const untrusted = await host.run(session(`getent passwd alice; echo "getent: $?"; ${login('the right one')}; cat /var/log/sssd/*`));
        expect(untrusted).toContain('getent: 2\n');
        expect(untrusted).not.toContain('login: 0');
        expect(untrusted).toContain('certificate verify failed');

        await host.run(['sh', '-c', TRUST]);
        const trusted = await host.run(
          session(
            `getent passwd alice; getent group researchers; id alice; ${login('the right one')}; ${login('a wrong one')}; cat /run/slapd.log /run/sssd.log`,
          ),
        );
        expect(trusted).toContain('alice:*:4711:4712:Alice:/home/alice:/bin/bash\n');
        expect(trusted).toContain('researchers:*:4712:\n');
        expect(trusted).toContain('uid=4711(alice) gid=4712(researchers) groups=4712(researchers),4713(crew)\n');
        expect(trusted).toMatch(/successfully authenticated[^]*account management done[^]*login: 0\n/);
        expect(trusted).toMatch(/Authentication failure\nlogin: 1\n/);
      });
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  },
);
