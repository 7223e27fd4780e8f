import { expect, testExtension } from '@flatcar/testing';

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
