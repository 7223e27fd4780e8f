import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'keepalived',
  summary: 'keepalived, virtual IP addresses by VRRP and load balancing by IPVS',
  versions: { kind: 'debian', package: 'trixie/main/keepalived', track: 'newest' },
  components: ({ version }) => [
    packaged(
      'keepalived',
      version,
      debian(['keepalived'], { programs: ['keepalived', 'genhash'], relocate: { data: ['usr/share/iproute2/**', 'usr/share/snmp/**'] } }),
    ),
  ],
  start: ['keepalived.service'],
  waive: { 'compiled-in-path:usr/{lib/*,share}/perl/*': 'the image has no program perl, and a library that embeds Perl starts without it' },
});
