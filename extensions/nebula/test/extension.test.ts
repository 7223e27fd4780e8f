import { expect, testExtension, testRealUse } from '@flatcar/testing';

/** A certificate authority and a node of its network, which is a lighthouse; and a second node for a network namespace. */
const START = `
set -e
mkdir -p /etc/nebula /run/far
cd /etc/nebula
nebula-cert ca -name test
nebula-cert sign -name node -ip 192.168.100.1/24
nebula-cert sign -name far -ip 192.168.100.2/24
# The key is in the configuration itself, as an operator may have it.
{ echo 'pki:'; echo '  ca: /etc/nebula/ca.crt'; echo '  cert: /etc/nebula/node.crt'; echo '  key: |'; sed 's/^/    /' node.key; } >config.yml
cat >>config.yml <<'END'
lighthouse: { am_lighthouse: true }
listen: { host: 0.0.0.0, port: 4242 }
tun: { dev: nebula1 }
firewall: { outbound: [{ port: any, proto: any, host: any }], inbound: [{ port: any, proto: tcp, host: any }] }
END
systemctl start nebula.service
`;

/** A second node in a network namespace: the tunnel between both goes over a pair of virtual cables. */
const FAR = `
set -e
# networkd would take the address away again.
printf '[Match]\\nName=near\\n[Link]\\nUnmanaged=yes\\n' >/run/systemd/network/05-near.network
networkctl reload
ip netns add far
ip link add near type veth peer name cable netns far
ip address add 10.99.0.1/24 dev near
ip link set near up
ip -netns far address add 10.99.0.2/24 dev cable
ip -netns far link set cable up
ip -netns far link set lo up
cat >/run/far/config.yml <<'END'
pki: { ca: /etc/nebula/ca.crt, cert: /etc/nebula/far.crt, key: /etc/nebula/far.key }
static_host_map: { 192.168.100.1: ['10.99.0.1:4242'] }
lighthouse: { hosts: [192.168.100.1], interval: 5 }
listen: { host: 0.0.0.0, port: 4242 }
tun: { dev: nebula2 }
firewall: { outbound: [{ port: any, proto: any, host: any }], inbound: [{ port: any, proto: icmp, host: any }] }
END
(ip netns exec far nebula -config /run/far/config.yml >/run/far/log 2>&1 &)
`;

testExtension(import.meta.dirname, {
  commands: [
    { run: ['nebula', '--version'], says: 'version' },
    { run: ['nebula-cert', '--version'], says: 'version' },
  ],
  units: ['nebula.service'],
  machine: {
    async also(machine) {
      await machine.run(START);
      expect(await machine.until('ip -brief address show nebula1 | grep 192')).toContain('192.168.100.1/24');
      expect(await machine.run('systemctl is-active nebula.service')).toBe('active');
      await machine.run(FAR);
      await machine.run(
        '(socat TCP-LISTEN:7777,bind=192.168.100.1,fork,reuseaddr SYSTEM:"echo hello from the node" >/run/node.log 2>&1 &)',
      );
      const call = 'ip netns exec far socat -T 20 - TCP:192.168.100.1:7777,connect-timeout=20 </dev/null';
      expect(await machine.until(call), 'what the far node gets through the tunnel').toContain('hello from the node');

      const mainPid = 'systemctl show --property=MainPID --value nebula.service';
      const before = await machine.run(mainPid);
      await machine.run('sed -i "s/proto: tcp/proto: icmp/" /etc/nebula/config.yml; systemctl reload nebula.service');
      expect(await machine.until(`! ${call}`), 'what the reloaded firewall refuses').not.toContain('hello');
      expect(await machine.run(mainPid)).toBe(before);
      await machine.run('echo "firewall: [" >>/etc/nebula/config.yml');
      expect((await machine.ask('systemctl reload nebula.service')).code, 'a reload of a wrong configuration').not.toBe(0);
      expect(await machine.run('systemctl is-active nebula.service')).toBe('active');
      expect(await machine.run('journalctl --unit nebula.service --no-pager')).toContain('not reloaded: nebula -test');
      expect((await machine.ask('systemctl restart nebula.service')).code, 'a start with a wrong configuration').not.toBe(0);
      expect(await machine.run('journalctl --no-pager'), 'the journal').not.toContain('NEBULA X25519 PRIVATE KEY');
      await machine.run('kill $(ip netns pids far); ip netns delete far');
    },
  },
});

const CERTIFICATES = 'nebula-cert ca -name test; nebula-cert sign -name node -ip 192.168.100.1/24 -groups web,ssh;';

testRealUse(import.meta.dirname, {
  uses: [
    {
      does: 'makes an authority and certificates, and verifies them',
      run: `${CERTIFICATES} nebula-cert verify -ca ca.crt -crt node.crt && echo verified`,
      gives: 'verified',
    },
    {
      does: 'refuses a certificate of another authority',
      run: `${CERTIFICATES} mkdir x; cd x; nebula-cert ca -name other; ! nebula-cert verify -ca ca.crt -crt ../node.crt 2>&1`,
      gives: /could not find ca for the certificate/,
    },
    {
      does: 'prints a certificate as JSON',
      run: `${CERTIFICATES} nebula-cert print -json -path node.crt`,
      gives: /"groups":\["web","ssh"\],"ips":\["192\.168\.100\.1\/24"\]/,
    },
    {
      does: 'shows a certificate as a QR code',
      run: `${CERTIFICATES} nebula-cert print -path node.crt -out-qr q.png >/dev/null; head -c 4 q.png | tail -c 3`,
      gives: 'PNG',
    },
    {
      does: 'reports what is wrong with a configuration (`-test`)',
      run: "printf 'pki: {}\\n' >c.yml; ! nebula -test -config c.yml 2>&1",
      gives: /no pki\.key path or PEM data provided/,
    },
  ],
});
