import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  tls: 'libcrypto comes with its SNMP library, which has no TLS connection of its own to verify',
  commands: [
    { run: ['lldpd', '--version'], says: 'version' },
    { run: ['lldpcli', '--version'], says: 'version' },
  ],
  units: ['lldpd.service'],
  machine: {
    active: ['lldpd.service'],
    answers: [{ run: 'lldpcli show chassis', says: /SysName:/ }],
  },
});
