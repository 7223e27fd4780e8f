import { defineExtension } from '@flatcar/core';

export default defineExtension({
  name: 'hardening',
  summary: 'stricter settings for the kernel, the SSH server and module loading, as a confext',
  kind: 'confext',
  versions: { kind: 'date', track: 'newest' },
  // All of it is in files/.
  components: () => [],
  start: ['hardening-sysctl.service'],
  essential: true,
  requiredPaths: ['etc/sysctl.d/90-hardening.conf', 'etc/ssh/sshd_config.d/10-hardening.conf', 'etc/modprobe.d/90-hardening.conf'],
});
