import { cloudHypervisor, cloudHypervisorReleases, firmwareReleases } from '@flatcar/components';
import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'hypervisor-cloud-hypervisor',
  summary: 'cloud-hypervisor, ch-remote and their firmware',
  versions: cloudHypervisorReleases,
  coupled: { firmware: firmwareReleases },
  components: (v) => cloudHypervisor(v),
});
