import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['tailscale', '--version'], says: 'version' },
    { run: ['tailscaled', '--version'], says: 'version' },
  ],
  units: ['tailscaled.service'],
});
