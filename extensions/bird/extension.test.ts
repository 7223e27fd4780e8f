import { expect, testExtension } from '@flatcar/testing';

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
