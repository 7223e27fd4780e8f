import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  small: true,
  commands: [{ run: ['yq', '--version'], says: 'version' }],
});
