import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['bird', '--version'], says: 'version' }],
  units: ['bird.service'],
});
