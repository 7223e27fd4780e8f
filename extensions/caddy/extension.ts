import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'caddy',
  summary: 'caddy, a web server with automatic certificates',
  versions: { kind: 'debian', package: 'trixie/main/caddy', track: 'newest' },
  components: ({ version }) => [packaged('caddy', version, debian(['caddy'], { programs: ['caddy'] }))],
  start: ['caddy.service'],
});
