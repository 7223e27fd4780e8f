import { testExtension } from '@flatcar/testing';

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
