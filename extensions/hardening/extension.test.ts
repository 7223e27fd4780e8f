import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  kind: 'confext',
  commands: [],
  units: ['hardening-sysctl.service'],
  paths: ['/etc/sysctl.d/90-hardening.conf', '/etc/ssh/sshd_config.d/10-hardening.conf', '/etc/modprobe.d/90-hardening.conf'],
});
