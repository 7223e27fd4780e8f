import { freePort, testExtension, testRealUse } from '@flatcar/testing';

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

/** A script that starts it with flags, waits until it listens, and asks it for metrics. */
const exported = (flags: string, then = 'busybox wget -q -O - http://127.0.0.1:$PORT/metrics'): string => `
node_exporter --web.listen-address=127.0.0.1:$PORT ${flags} >log 2>&1 &
until grep -qi ":$(printf %04x $PORT) 0*:0* 0a " /proc/net/tcp /proc/net/tcp6; do kill -0 $! || { cat log; exit 1; }; sleep 0.2; done
${then}`;
const only = (collector: string): string => `--collector.disable-defaults --collector.${collector}`;

testRealUse(import.meta.dirname, {
  withServers: async (_, rows) => rows({ PORT: String(await freePort()) }),
  uses: [
    { does: 'shows CPU, memory and load of the machine', run: exported(''), gives: /^node_load1 [^]*^node_memory_MemTotal_bytes /m },
    {
      does: 'shows metrics out of files (`--collector.textfile.directory`)',
      run: `echo 'written_by_hand 4711' >a.prom; ${exported(`${only('textfile')} --collector.textfile.directory=.`)}`,
      gives: /^node_textfile_scrape_error 0$[^]*^written_by_hand 4711$/m,
    },
    {
      does: 'speaks TLS only (`--web.config.file`)',
      run: `cat >web.yml <<'END'
tls_server_config: { cert_file: /run/tls/trusted.pem, key_file: /run/tls/trusted.key }
END
${exported('--web.config.file=web.yml', 'busybox wget -O - http://127.0.0.1:$PORT/ 2>&1 | grep -o "400 Bad Request"')}`,
      gives: '400 Bad Request',
    },
  ],
});
