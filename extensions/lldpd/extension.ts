import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'lldpd',
  summary: 'lldpd, tells the switches and hosts of a network who a host is, and learns who they are (LLDP)',
  versions: { kind: 'debian', at: 'trixie/main/lldpd', keep: 'newest' },
  components: ({ version }) => [packaged('lldpd', version, debian(['lldpd'], { programs: ['lldpd', 'lldpcli'] }))],
  start: ['lldpd.service'],
});
