import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['caddy', 'version'], says: 'version' }],
  units: ['caddy.service'],
  machine: {
    files: { '/etc/caddy/Caddyfile': ':8081\nrespond "hello from caddy"\n' },
    active: ['caddy.service'],
    answers: [{ run: 'systemctl reload caddy.service && curl --silent --show-error http://127.0.0.1:8081', says: /^hello from caddy$/ }],
  },
});
