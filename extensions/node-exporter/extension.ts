import { binary, defineExtension, go } from '@flatcar/core';

export default defineExtension({
  name: 'node-exporter',
  summary: 'the Prometheus exporter of machine metrics',
  versions: { kind: 'go', module: 'github.com/prometheus/node_exporter', track: 'newest' },
  components: ({ version }) => [
    binary(
      'node_exporter',
      version,
      go('github.com/prometheus/node_exporter', '.', { stamps: { 'github.com/prometheus/common/version.Version': '{version}' } }),
    ),
  ],
  start: ['node-exporter.service'],
});
