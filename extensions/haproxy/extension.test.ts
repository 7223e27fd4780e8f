import { testExtension } from '@flatcar/testing';

const CONFIG = `
defaults
  mode http
  timeout connect 60s
  timeout client 60s
  timeout server 60s
frontend hello
  bind 127.0.0.1:8082
  http-request return status 200 content-type text/plain string hello\\ from\\ haproxy
`;

testExtension(import.meta.dirname, {
  commands: [{ run: ['haproxy', '--version'], says: 'version' }],
  units: ['haproxy.service'],
  machine: {
    files: { '/etc/haproxy/haproxy.cfg': CONFIG },
    active: ['haproxy.service'],
    answers: [{ run: 'curl --silent --show-error http://127.0.0.1:8082', says: /^hello from haproxy$/ }],
  },
});
