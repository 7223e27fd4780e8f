import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  small: true,
  kind: 'confext',
  commands: [],
  units: ['hardening-sysctl.service'],
  paths: ['/etc/sysctl.d/90-hardening.conf', '/etc/ssh/sshd_config.d/10-hardening.conf', '/etc/modprobe.d/90-hardening.conf'],
  machine: {
    active: ['hardening-sysctl.service'],
    answers: [
      { run: 'sysctl --values kernel.kptr_restrict kernel.dmesg_restrict', says: /^2\n1$/ },
      { run: 'mkdir -p /run/sshd && sshd -T', says: /^passwordauthentication no$/im },
      { run: 'modprobe --show-depends hfsplus', says: /^install \/bin\/false/m },
    ],
  },
});
