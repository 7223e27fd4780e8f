import { binfmtService, qemuReleases, qemuUser } from '@flatcar/components';
import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'hypervisor-binfmt',
  summary: 'runs containers of other architectures: static QEMU emulators, registered with the kernel',
  versions: qemuReleases,
  components: ({ version }) => [qemuUser(version), binfmtService],
  start: ['qemu-binfmt.service'],
});
