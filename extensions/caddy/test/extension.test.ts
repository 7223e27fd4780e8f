import { expect, freePort, testExtension, testRealUse } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['caddy', 'version'], says: 'version' }],
  units: ['caddy.service', 'caddy-user.service'],
  machine: {
    files: { '/etc/caddy/Caddyfile': ':8081\nrespond "hello from caddy"\n' },
    active: ['caddy.service'],
    runsAs: { 'caddy.service': 'caddy' },
    reloads: ['caddy.service'],
    answers: [{ run: 'curl --silent --show-error http://127.0.0.1:8081', says: /^hello from caddy$/ }],
    async also(machine) {
      // A port that only root may take, certificates in the folder that is its own, and a log.
      await machine.run(`cat >/etc/caddy/Caddyfile <<'END'
{
  skip_install_trust
}
https://localhost:443 {
  tls internal
  log {
    output file /var/log/caddy/access.log
  }
  respond "hello over TLS"
}
END
systemctl reload caddy.service`);
      const root = '/var/lib/caddy/pki/authorities/local/root.crt';
      expect(await machine.until(`curl --silent --show-error --cacert ${root} https://localhost`)).toBe('hello over TLS');
      expect(await machine.run(`stat --format=%U ${root} /var/log/caddy/access.log`)).toBe('caddy\ncaddy');
      await machine.run('printf "http://:8082 {\\n  nonsense\\n}\\n" >>/etc/caddy/Caddyfile');
      expect((await machine.ask('systemctl reload caddy.service')).code, 'a reload of a wrong configuration').not.toBe(0);
      expect(await machine.run(`curl --silent --show-error --cacert ${root} https://localhost`)).toBe('hello over TLS');
    },
  },
});

/** A script that starts caddy with the rest of a Caddyfile, waits until it listens, and asks it. */
const served = (caddyfile: string, then = 'busybox wget -q -O - http://127.0.0.1:$PORT/'): string => `
cat >Caddyfile <<END
{
  admin off
  auto_https off
}
http://127.0.0.1:$PORT {
${caddyfile}
}
END
caddy run --config Caddyfile >log 2>&1 &
until grep -qi ":$(printf %04x $PORT) 0*:0* 0a " /proc/net/tcp /proc/net/tcp6; do kill -0 $! || { cat log; exit 1; }; sleep 0.2; done
${then}`;

testRealUse(import.meta.dirname, {
  withServers: async ({ tls }, rows) =>
    rows({ PORT: String(await freePort()), TRUSTED: String(tls.trusted.port), STRANGER: String(tls.stranger.port) }),
  uses: [
    {
      does: "passes requests on to a TLS server, which it verifies by the host's CA store",
      run: served('  reverse_proxy https://127.0.0.1:$TRUSTED'),
      gives: 'hello over TLS',
    },
    {
      does: 'refuses a TLS server of a CA that the host does not know',
      run: served(
        '  reverse_proxy https://127.0.0.1:$STRANGER',
        'busybox wget -O - http://127.0.0.1:$PORT/ 2>&1 | grep -o "502 Bad Gateway"',
      ),
      gives: '502 Bad Gateway',
    },
    {
      does: 'serves files with their types, compressed',
      run: served(
        '  root * .\n  encode gzip\n  file_server',
        'yes hello | head -n 999 >a.css; busybox wget -q -S --header "Accept-Encoding: gzip" -O a.gz http://127.0.0.1:$PORT/a.css 2>&1 | grep -i -o "text/css"; busybox gunzip -c a.gz | uniq',
      ),
      gives: 'text/css\nhello',
    },
    {
      does: 'lists a folder (`file_server browse`)',
      run: served('  file_server browse', 'touch listed; busybox wget -q -O - http://127.0.0.1:$PORT/ | grep -c \'href="./listed"\''),
      gives: '1',
    },
    {
      does: 'fills in templates',
      run: served(
        '  root * .\n  templates\n  file_server',
        "echo '{{ add 1 2 }} {{ .RemoteIP }}' >t.html; busybox wget -q -O - http://127.0.0.1:$PORT/t.html",
      ),
      gives: '3 127.0.0.1',
    },
    {
      does: 'asks for a password',
      run: served(
        '  basicauth {\n    alice $(caddy hash-password --plaintext secret)\n  }\n  respond welcome',
        'busybox wget -O - http://127.0.0.1:$PORT/ 2>&1 | grep -o "401 Unauthorized"; busybox wget -q -O - http://alice:secret@127.0.0.1:$PORT/',
      ),
      gives: '401 Unauthorized\nwelcome',
    },
    {
      does: 'reports the line of a mistake (`validate`)',
      run: "printf ':1 {\\n  nonsense\\n}\\n' >Caddyfile; ! caddy validate --adapter caddyfile --config Caddyfile 2>&1",
      gives: /Caddyfile:2.*unrecognized directive: nonsense/,
    },
  ],
});
