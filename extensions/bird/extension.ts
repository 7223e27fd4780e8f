import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'bird',
  summary: 'bird, a routing daemon for BGP, OSPF, Babel and RIP',
  versions: { kind: 'debian', package: 'trixie/main/bird2', track: 'newest' },
  components: ({ version }) => [packaged('bird', version, debian(['bird2'], { programs: ['bird', 'birdc'] }))],
  start: ['bird.service'],
});
