import { testExtension } from '@flatcar/testing';

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
    answers: [{ run: 'lldpcli show chassis', says: /SysName:[^]*SysDescr: +described-by-the-test/ }],
  },
});
