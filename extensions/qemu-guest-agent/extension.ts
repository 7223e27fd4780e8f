import { debian, defineExtension, packaged } from '@flatcar/core';

export default defineExtension({
  name: 'qemu-guest-agent',
  summary: 'the QEMU guest agent: shutdown, file system freeze and addresses for the hypervisor',
  versions: { kind: 'debian', package: 'trixie/main/qemu-guest-agent', track: 'newest' },
  components: ({ version }) => [packaged('qemu-guest-agent', version, debian(['qemu-guest-agent'], { programs: ['qemu-ga'] }))],
  start: ['qemu-guest-agent.service'],
});
