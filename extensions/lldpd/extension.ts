import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'lldpd',
  summary: 'lldpd, an LLDP daemon that announces a host to its network neighbors and lists them',
  versions: { kind: 'debian', package: 'trixie/main/lldpd', track: 'newest' },
  components: ({ version }) => [packaged('lldpd', version, debian(['lldpd'], { programs: ['lldpd', 'lldpcli'] }))],
  start: ['lldpd.service'],
  waive: {
    'compiled-in-path:/usr/share/snmp': 'it answers by numbers; the texts of MIBs are for clients of SNMP',
    'compiled-in-path:/usr/{lib/*,share}/perl/*': 'Perl is a part of its SNMP library for snmpd.conf of snmpd, which is not here',
  },
});
