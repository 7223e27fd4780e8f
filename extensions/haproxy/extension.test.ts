import { expect, testExtension } from '@flatcar/testing';

/** As Debian's configuration has it: a user, a chroot, a socket for `socat` and a log. */
const CONFIG = `
global
  user haproxy
  group haproxy
  chroot /var/lib/haproxy
  log /dev/log local0
  stats socket /run/haproxy/admin.sock mode 660 level admin
defaults
  mode http
  timeout connect 300s
  timeout client 300s
  timeout server 300s
frontend hello
  bind 127.0.0.1:8082
  http-request return status 200 content-type text/plain string hello\\ from\\ haproxy
frontend tls
  mode tcp
  bind 127.0.0.1:8443 ssl crt /etc/haproxy/site.pem
  default_backend echo
backend echo
  mode tcp
  server self 127.0.0.1:8082
`;

/** A certificate of its own for a name, as a renewal puts it. */
const certificate = (name: string): string =>
  `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=${name} -keyout /run/site.key -out /run/site.crt 2>&1 &&
cat /run/site.crt /run/site.key >/etc/haproxy/site.pem`;

/** Whose certificate a client is shown. */
const SHOWN = 'openssl s_client -connect 127.0.0.1:8443 </dev/null 2>&1 | grep ^subject';

testExtension(import.meta.dirname, {
  commands: [{ run: ['haproxy', '-vv'], says: 'version' }],
  units: ['haproxy.service', 'haproxy-user.service'],
  machine: {
    async also(machine) {
      await machine.run(`mkdir -p /etc/haproxy; ${certificate('first.test')}; cat >/etc/haproxy/haproxy.cfg <<'END'${CONFIG}END
systemctl start haproxy.service`);
      const hello = 'curl --silent --show-error http://127.0.0.1:8082';
      expect(await machine.until(hello)).toBe('hello from haproxy');
      expect(await machine.run(SHOWN)).toContain('first.test');
      const users = 'ps -o user= --ppid $(systemctl show --property=MainPID --value haproxy.service) | sort --unique';
      expect(await machine.run(users), 'who the workers are').toBe('haproxy');
      expect(await machine.run('echo "show info" | socat - /run/haproxy/admin.sock')).toMatch(/^Version: /m);

      // A client that has sent half of its request while the certificate is renewed.
      await machine.run(
        `rm -f /run/half; mkfifo /run/half; (socat -t 300 - TCP:127.0.0.1:8082 </run/half >/run/answer 2>&1 &) ; exec 9>/run/half; printf 'GET / HTTP/1.1\\r\\n' >&9; (sleep 3600 >/run/half 2>/dev/null & echo $! >/run/holder)`,
      );
      await machine.run(`${certificate('second.test')}; systemctl reload haproxy.service`);
      expect(await machine.until(`${SHOWN} | grep second.test`)).toContain('second.test');
      await machine.run(`printf 'Host: x\\r\\nConnection: close\\r\\n\\r\\n' >/run/half; kill $(cat /run/holder)`);
      expect(await machine.until('grep "hello from haproxy" /run/answer'), 'what the client from before the reload got').toContain('hello');

      await machine.run('cp /etc/haproxy/haproxy.cfg /run/good.cfg; echo "nonsense" >>/etc/haproxy/haproxy.cfg');
      expect((await machine.ask('systemctl reload haproxy.service')).code, 'a reload of a wrong configuration').not.toBe(0);
      expect(await machine.run(hello), 'what is served after a refused reload').toBe('hello from haproxy');
      expect((await machine.ask('systemctl restart haproxy.service')).code, 'a start with a wrong configuration').not.toBe(0);
      expect(await machine.run('journalctl --unit haproxy.service --no-pager')).toContain("unknown keyword 'nonsense'");
      await machine.run('cp /run/good.cfg /etc/haproxy/haproxy.cfg; systemctl restart haproxy.service');
      expect(await machine.until(hello)).toBe('hello from haproxy');
    },
  },
});
