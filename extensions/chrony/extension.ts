import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'chrony',
  summary: 'chrony, an NTP client and server that replaces systemd-timesyncd',
  versions: { kind: 'debian', package: 'trixie/main/chrony', track: 'newest' },
  components: ({ version }) => [packaged('chrony', version, debian(['chrony'], { programs: ['chronyc', 'chronyd'] }))],
  start: ['chrony.service'],
});
