import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['nebula', '--version'], says: 'version' },
    { run: ['nebula-cert', '--version'], says: 'version' },
  ],
  units: ['nebula.service'],
});
