import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['node_exporter', '--version'], says: 'version' }],
  units: ['node-exporter.service'],
});
