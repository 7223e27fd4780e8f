import { expect, freePort, testExtension, testRealUse } from '@flatcar/testing';

const CONFIG = 'router id 192.0.2.1;\nprotocol device {}\n';

testExtension(import.meta.dirname, {
  tls: 'it speaks RPKI over SSH or TCP, never over TLS',
  commands: [{ run: ['bird', '--version'], says: 'version' }],
  units: ['bird.service', 'bird-user.service'],
  machine: {
    files: { '/etc/bird/bird.conf': CONFIG },
    active: ['bird.service'],
    runsAs: { 'bird.service': 'bird' },
    reloads: ['bird.service'],
    answers: [{ run: 'birdc show status', says: /^Daemon is up and running$/m }],
    async also(machine) {
      const routes = 'birdc show route protocol fixed';
      await machine.run(`cat >>/etc/bird/bird.conf <<'END'
protocol static fixed { ipv4; route 198.51.100.0/24 blackhole; }
END
systemctl reload bird.service`);
      expect(await machine.until(routes)).toContain('198.51.100.0/24');
      await machine.run('cp /etc/bird/bird.conf /etc/bird/good.conf; echo "protocol nonsense {" >>/etc/bird/bird.conf');
      expect((await machine.ask('systemctl reload bird.service')).code, 'a reload of a wrong configuration').not.toBe(0);
      expect(await machine.run(routes), 'routes after a refused reload').toContain('198.51.100.0/24');
      expect((await machine.ask('systemctl restart bird.service')).code, 'a start with a wrong configuration').not.toBe(0);
      expect(await machine.run('journalctl --unit bird.service --no-pager'), 'where the fault is').toMatch(
        /bird\.conf:\d+:\d+ syntax error/,
      );
      await machine.run(`echo '${CONFIG.trim()}' >/etc/bird/bird.conf; systemctl restart bird.service`);
    },
  },
});

/** A script that starts bird with a configuration and waits for its socket. */
const started = (name: 'one' | 'two', config: string): string => `
cat >${name}.conf <<END
router id ${name === 'one' ? '192.0.2.1' : '192.0.2.2'};
log stderr all;
protocol device {}
${config}
END
bird -f -c ${name}.conf -s ./${name}.ctl -P ./${name}.pid >${name}.log 2>&1 &
until [ -S ${name}.ctl ]; do kill -0 $! || { cat ${name}.log; exit 1; }; sleep 0.2; done`;
const FIXED = 'protocol static fixed { ipv4; route 198.51.100.0/24 blackhole; route 203.0.113.0/24 blackhole; }';
const speaker = (as: number, own: string, other: string, more: string): string => `
protocol bgp peer {
  local ${own} port $PORT as ${as};
  neighbor ${other} port $PORT as ${65_003 - (as - 65_000)};
  multihop;
  strict bind yes;
  connect delay time 1;
  ipv4 { import all; export all; next hop self; };
}
${more}`;

testRealUse(import.meta.dirname, {
  withServers: async (_, rows) => rows({ PORT: String(await freePort()) }),
  uses: [
    {
      does: 'holds static routes, and `birdc` shows those of a filter',
      run: `${started('one', FIXED)}\nbirdc -s ./one.ctl 'show route where net ~ [ 198.51.0.0/16+ ]'`,
      gives: /^198\.51\.100\.0\/24\s+blackhole \[fixed /m,
    },
    {
      does: 'takes over a changed configuration (`birdc configure`)',
      run: `${started('one', '')}\necho '${FIXED}' >>one.conf; birdc -s ./one.ctl configure; birdc -s ./one.ctl show route count`,
      gives: /Reconfigured[^]*2 of 2 routes/,
    },
    {
      does: 'learns a route from a neighbour by BGP',
      run: `${started('one', speaker(65_001, '127.0.0.1', '127.0.0.2', FIXED))}\n${started('two', speaker(65_002, '127.0.0.2', '127.0.0.1', ''))}
until birdc -s ./two.ctl show route | grep -o '203.0.113.0/24 .*AS65001i'; do sleep 0.5; done`,
      gives: /AS65001i/,
    },
    {
      does: 'calculates in its own language (`birdc eval`)',
      run: `${started('one', 'function twice(int a) -> int { return 2 * a; }')}\nbirdc -s ./one.ctl 'eval twice(21)'`,
      gives: /^42$/m,
    },
    {
      does: 'reports the line of a mistake (`-p`)',
      run: "printf 'router id 192.0.2.1;\\nprotocol nonsense {\\n' >b.conf; ! bird -p -c b.conf 2>&1",
      gives: /b\.conf:2:\d+ syntax error/,
    },
  ],
});
