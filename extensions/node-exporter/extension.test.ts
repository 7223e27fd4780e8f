import { testExtension } from '@flatcar/testing';

const metrics = 'curl --silent --show-error http://127.0.0.1:9100/metrics';

testExtension(import.meta.dirname, {
  commands: [{ run: ['node_exporter', '--version'], says: 'version' }],
  units: ['node-exporter.service'],
  machine: {
    files: {
      '/etc/default/node-exporter': 'ARGS="--collector.textfile.directory=/var/lib/metrics --no-collector.zfs"\n',
      '/var/lib/metrics/test.prom': 'written_by_the_test 4711\n',
    },
    active: ['node-exporter.service'],
    runsAs: { 'node-exporter.service': 'node-exporter' },
    ports: [9100],
    answers: [
      { run: metrics, says: /^node_uname_info\{.*nodename="stand-in"/m },
      { run: metrics, says: /^written_by_the_test 4711$/m },
    ],
  },
});
