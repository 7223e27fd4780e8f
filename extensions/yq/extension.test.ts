import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['yq', '--version'], says: 'version' }],
});
