import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'restic',
  summary: 'restic, encrypted and deduplicated backups',
  versions: { kind: 'debian', package: 'trixie/main/restic', track: 'newest' },
  components: ({ version }) => [packaged('restic', version, debian(['restic'], { programs: ['restic'] }))],
});
