import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  tls: 'it speaks RPKI over SSH or TCP, never over TLS',
  commands: [{ run: ['bird', '--version'], says: 'version' }],
  units: ['bird.service'],
  machine: {
    files: { '/etc/bird/bird.conf': 'router id 192.0.2.1;\nprotocol device {}\n' },
    active: ['bird.service'],
    answers: [{ run: 'birdc show status', says: /^Daemon is up and running$/m }],
  },
});
