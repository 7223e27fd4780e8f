import { expect, testExtension } from '@flatcar/testing';

/** A neighbour at the other end of a virtual cable, in a network namespace of its own. */
const FAR = `
set -e
printf '[Match]\\nName=near\\n[Link]\\nUnmanaged=yes\\n' >/run/systemd/network/05-near.network
networkctl reload
ip netns add far
ip link add near type veth peer name cable netns far
ip link set near up
ip -netns far link set cable up
(ip netns exec far lldpd -d -u /run/far.socket >/run/far.log 2>&1 &)
until lldpcli -u /run/far.socket configure system hostname the-far-one; do sleep 1; done
lldpcli configure lldp tx-interval 1
lldpcli -u /run/far.socket configure lldp tx-interval 1
`;

testExtension(import.meta.dirname, {
  tls: 'libcrypto comes with its SNMP library, which has no TLS connection of its own to verify',
  commands: [
    { run: ['lldpd', '--version'], says: 'version' },
    { run: ['lldpcli', '--version'], says: 'version' },
  ],
  units: ['lldpd.service', 'lldpd-user.service'],
  machine: {
    // Flags as Debian has them: this one is the name that neighbours are told.
    files: { '/etc/default/lldpd': 'DAEMON_ARGS="-S described-by-the-test"\n' },
    active: ['lldpd.service'],
    runsAs: { 'lldpd.service': '_lldpd' },
    async also(machine) {
      await machine.run(FAR);
      expect(await machine.until('lldpcli show neighbors ports near | grep SysName')).toContain('the-far-one');
      const heard = 'lldpcli -u /run/far.socket show neighbors';
      expect(await machine.until(`${heard} | grep SysDescr`), 'what the neighbour is told').toContain('described-by-the-test');
      await machine.run('ip netns delete far');
    },
    answers: [{ run: 'lldpcli show chassis', says: /SysName:[^]*SysDescr: +described-by-the-test/ }],
  },
});
