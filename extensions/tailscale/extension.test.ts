import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['tailscale', '--version'], says: 'version' },
    { run: ['tailscaled', '--version'], says: 'version' },
  ],
  units: ['tailscaled.service'],
  machine: {
    active: ['tailscaled.service'],
    answers: [
      { run: 'tailscale status --json', says: /"BackendState": "NeedsLogin"/ },
      { run: 'ip -brief link show tailscale0', says: /^tailscale0 / },
    ],
  },
});
