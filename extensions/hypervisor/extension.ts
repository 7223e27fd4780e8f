import {
  binfmtService,
  cloudHypervisor,
  cloudHypervisorReleases,
  containerdConf,
  containerdConfWaiver,
  firmwareReleases,
  kata,
  kataReleases,
  qemu,
  qemuReleases,
  qemuUser,
  qemuWaiver,
} from '@flatcar/components';
import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'hypervisor',
  summary: 'all hypervisors in one image: QEMU, cloud-hypervisor, Kata Containers and emulators of other architectures',
  versions: { kind: 'date', track: 'newest' },
  coupled: { qemu: qemuReleases, 'cloud-hypervisor': cloudHypervisorReleases, firmware: firmwareReleases, kata: kataReleases },
  components: (v) => [
    qemu(v.qemu),
    qemuUser(v.qemu),
    binfmtService,
    ...cloudHypervisor({ version: v['cloud-hypervisor'], firmware: v.firmware }),
    ...kata(v.kata),
    containerdConf,
  ],
  start: ['qemu-binfmt.service'],
  waive: { ...containerdConfWaiver, ...qemuWaiver },
});
