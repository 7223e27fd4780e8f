import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['caddy', 'version'], says: 'version' }],
  units: ['caddy.service'],
});
