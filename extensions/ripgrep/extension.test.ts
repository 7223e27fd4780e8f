import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['rg', '--version'], says: 'version' }],
});
