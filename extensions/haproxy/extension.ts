import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'haproxy',
  summary: 'haproxy, a load balancer for TCP and HTTP',
  versions: { kind: 'debian', package: 'trixie/main/haproxy', track: 'newest' },
  components: ({ version }) => [packaged('haproxy', version, debian(['haproxy'], { programs: ['haproxy'] }))],
  start: ['haproxy.service'],
});
