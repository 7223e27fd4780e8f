import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['haproxy', '--version'], says: 'version' }],
  units: ['haproxy.service'],
});
