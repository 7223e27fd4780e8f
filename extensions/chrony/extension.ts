import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'chrony',
  summary: 'chrony, keeps the clock right by NTP, in place of systemd-timesyncd',
  versions: { kind: 'debian', package: 'trixie/main/chrony', track: 'newest' },
  components: ({ version }) => [packaged('chrony', version, debian(['chrony'], { programs: ['chronyc', 'chronyd'] }))],
  start: ['chrony.service'],
});
