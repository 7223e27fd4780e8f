import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['btop', '--version'], says: 'version' }],
});
