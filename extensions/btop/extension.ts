import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'btop',
  summary: 'btop, a monitor for processors, memory, disks, networks and processes',
  versions: { kind: 'debian', package: 'trixie/main/btop', track: 'newest' },
  components: ({ version }) => [
    packaged('btop', version, debian(['btop'], { programs: ['btop'], relocate: { data: ['usr/share/btop/themes/**'] } })),
  ],
});
