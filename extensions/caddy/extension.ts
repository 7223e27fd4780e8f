import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'caddy',
  summary: 'caddy, a web server that gets its certificates by itself',
  versions: { kind: 'debian', package: 'trixie/main/caddy', track: 'newest' },
  components: ({ version }) => [packaged('caddy', version, debian(['caddy'], { programs: ['caddy'] }))],
  start: ['caddy.service'],
});
