import { expect, freePort, testExtension, testRealUse } from '@flatcar/testing';

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
  tls: 'what it says of a backend takes a configuration: see its real uses',
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

/** A script that starts haproxy with the rest of a configuration, waits until it answers, and asks it for a path. */
const served = (config: string, then = 'busybox wget -q -O - http://127.0.0.1:$PORT/'): string => `
cat >haproxy.cfg <<END
global
  nbthread 1
defaults
  mode http
  timeout connect 250s
  timeout client 250s
  timeout server 250s
  timeout queue 250s
  retries 0
${config}
END
haproxy -db -f haproxy.cfg >log 2>&1 &
until grep -qi ":$(printf %04x $PORT) 0*:0* 0a " /proc/net/tcp /proc/net/tcp6; do kill -0 $! || { cat log; exit 1; }; sleep 0.2; done
${then}`;
const behind = (server: string): string => `
frontend in
  bind 127.0.0.1:$PORT
  default_backend out
backend out
  server one ${server}`;

testRealUse(import.meta.dirname, {
  withServers: async ({ tls }, rows) =>
    rows({ PORT: String(await freePort()), TRUSTED: String(tls.trusted.port), STRANGER: String(tls.stranger.port) }),
  uses: [
    {
      does: "verifies a TLS backend by the host's CA store (`ca-file @system-ca`)",
      run: served(behind('127.0.0.1:$TRUSTED ssl verify required ca-file @system-ca')),
      gives: 'hello over TLS',
    },
    {
      does: 'refuses a TLS backend of a CA that the host does not know',
      run: served(
        behind('127.0.0.1:$STRANGER ssl verify required ca-file @system-ca'),
        'busybox wget -O - http://127.0.0.1:$PORT/ 2>&1 | grep -o "503 Service Unavailable"',
      ),
      gives: '503 Service Unavailable',
    },
    {
      does: 'terminates TLS, and speaks HTTP/2 to itself',
      run: `cat /run/tls/trusted.pem /run/tls/trusted.key >site.pem
${served(`
frontend in
  bind 127.0.0.1:$PORT
  default_backend tls
backend tls
  server self unix@tls.sock ssl verify required ca-file @system-ca verifyhost localhost alpn h2
frontend tls
  bind unix@tls.sock ssl crt site.pem alpn h2,http/1.1
  http-request return status 200 content-type text/plain lf-string "%HV %[ssl_fc_protocol]"`)}`,
      gives: 'HTTP/2.0 TLSv1.3',
    },
    {
      does: 'answers by a Lua script',
      run: `cat >hello.lua <<'END'
core.register_service('hello', 'http', function(applet)
  applet:set_status(200)
  applet:start_response()
  applet:send('hello from ' .. string.upper('lua'))
end)
END
${served('frontend in\n  bind 127.0.0.1:$PORT\n  http-request use-service lua.hello').replace('  nbthread 1', '  nbthread 1\n  lua-load hello.lua')}`,
      gives: 'hello from LUA',
    },
    {
      does: 'shows its statistics as a page and as CSV',
      run: served(
        'frontend in\n  bind 127.0.0.1:$PORT\n  stats enable\n  stats uri /stats',
        'busybox wget -q -O - http://127.0.0.1:$PORT/stats\\;csv | cut -d , -f 1,2',
      ),
      gives: '# pxname,svname\nin,FRONTEND',
    },
    {
      does: 'chooses by a regular expression',
      run: served(
        'frontend in\n  bind 127.0.0.1:$PORT\n  http-request return status 404 unless { path_reg ^/v[0-9]+\\$ }\n  http-request return status 200 content-type text/plain string chosen',
        'busybox wget -O - http://127.0.0.1:$PORT/x 2>&1 | grep -o "404 Not Found"; busybox wget -q -O - http://127.0.0.1:$PORT/v12',
      ),
      gives: '404 Not Found\nchosen',
    },
    {
      does: 'reports the line of a mistake (`-c`)',
      run: "printf 'defaults\\n  mode http\\n  nonsense\\n' >h.cfg; ! haproxy -c -f h.cfg 2>&1",
      gives: /h\.cfg:3\] : unknown keyword 'nonsense' in 'defaults' section/,
    },
  ],
});
