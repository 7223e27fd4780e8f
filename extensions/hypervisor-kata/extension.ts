import { containerdConf, containerdConfWaiver, kata, kataReleases } from '@flatcar/components';
import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'hypervisor-kata',
  summary: 'Kata Containers: containers in virtual machines by QEMU or cloud-hypervisor, as runtimes of containerd',
  versions: kataReleases,
  components: ({ version }) => [...kata(version), containerdConf],
  waive: containerdConfWaiver,
});
