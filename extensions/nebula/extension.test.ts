import { expect, testExtension } from '@flatcar/testing';

/** A certificate authority and a node of its network, which is a lighthouse. */
const START = `
set -e
cd /etc/nebula
nebula-cert ca -name test
nebula-cert sign -name node -ip 192.168.100.1/24
cat >config.yml <<'END'
pki: { ca: /etc/nebula/ca.crt, cert: /etc/nebula/node.crt, key: /etc/nebula/node.key }
lighthouse: { am_lighthouse: true }
listen: { host: 0.0.0.0, port: 4242 }
tun: { dev: nebula1 }
firewall: { outbound: [{ port: any, proto: any, host: any }], inbound: [{ port: any, proto: icmp, host: any }] }
END
systemctl start nebula.service
`;

testExtension(import.meta.dirname, {
  commands: [
    { run: ['nebula', '--version'], says: 'version' },
    { run: ['nebula-cert', '--version'], says: 'version' },
  ],
  units: ['nebula.service'],
  machine: {
    async also(machine) {
      await machine.run(`mkdir -p /etc/nebula\n${START}`);
      expect(await machine.until('ip -brief address show nebula1 | grep 192')).toContain('192.168.100.1/24');
      expect(await machine.run('systemctl is-active nebula.service')).toBe('active');
    },
  },
});
