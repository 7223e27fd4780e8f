import { testExtension, testRelocated } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['chronyc', '--version'], says: 'version' },
    { run: ['chronyd', '--version'], says: 'version' },
  ],
  units: ['chrony.service', 'chrony-user.service'],
  machine: {
    // A clock of its own: the machine reaches no server.
    files: { '/etc/chrony/conf.d/test.conf': 'local stratum 8\n' },
    active: ['chrony.service'],
    reloads: ['chrony.service'],
    runsAs: { 'chrony.service': '_chrony' },
    answers: [
      { run: 'chronyc -n tracking', says: /^Stratum +: 8$/m },
      { run: 'systemctl show --property=ActiveState --value systemd-timesyncd.service', says: /^inactive$/ },
    ],
  },
});

/** A server with a certificate, and a client that names no CA. */
const NTS = `
chronyd -x -u root -d 'port 11123' 'ntsport 14460' "ntsservercert $1" "ntsserverkey $2" 'local stratum 8' allow 'cmdport 0' 'bindcmdaddress /' 'pidfile /run/server.pid' >/dev/null 2>&1 &
sleep 1
chronyd -x -u root -Q -t 10 'server 127.0.0.1 iburst nts ntsport 14460' 'bindcmdaddress /' 'pidfile /run/client.pid' 2>&1
kill $!
`;

testRelocated(import.meta.dirname, {
  folder: '/usr/lib/chrony',
  tls: [
    {
      // Network time security (RFC 8915), between two of itself.
      run: ({ certificate, key }) => ['sh', '-c', NTS, 'sh', certificate, key],
      accepts: /System clock wrong by/,
      refuses: /certificate/,
    },
  ],
  commands: [{ run: ['chronyc', '--version'], says: 'version' }],
});
