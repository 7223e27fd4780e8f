import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['node_exporter', '--version'], says: 'version' }],
  units: ['node-exporter.service'],
  machine: {
    active: ['node-exporter.service'],
    ports: [9100],
    answers: [{ run: 'curl --silent --show-error http://127.0.0.1:9100/metrics', says: /^node_uname_info\{.*nodename="stand-in"/m }],
  },
});
