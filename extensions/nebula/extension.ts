import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'nebula',
  summary: 'nebula, an overlay network with its own certificates',
  versions: { kind: 'debian', package: 'trixie/main/nebula', track: 'newest' },
  components: ({ version }) => [packaged('nebula', version, debian(['nebula'], { programs: ['nebula', 'nebula-cert'] }))],
  start: ['nebula.service'],
  essential: true,
});
