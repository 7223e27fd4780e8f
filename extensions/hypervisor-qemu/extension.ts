import { qemu, qemuReleases, qemuWaiver } from '@flatcar/components';
import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'hypervisor-qemu',
  summary: 'QEMU for x86-64 and arm64 guests with KVM and TCG, qemu-img, qemu-nbd, virtiofsd and UEFI firmware',
  versions: qemuReleases,
  components: ({ version }) => [qemu(version)],
  waive: qemuWaiver,
});
