import { testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [
    { run: ['tailscale', '--version'], says: 'version' },
    { run: ['tailscaled', '--version'], says: 'version' },
  ],
  units: ['tailscaled.service'],
  machine: {
    files: { '/etc/default/tailscaled': 'PORT=41642\nFLAGS="--verbose=1"\n' },
    active: ['tailscaled.service'],
    answers: [
      { run: 'tailscale status --json', says: /"BackendState": "NeedsLogin"/ },
      { run: 'ip -brief link show tailscale0', says: /^tailscale0 / },
      { run: 'ss --udp --listening --numeric --no-header "sport = :41642"', says: /41642/ },
      { run: 'tr "\\0" " " </proc/$(systemctl show --property=MainPID --value tailscaled.service)/cmdline', says: /--verbose=1/ },
    ],
  },
});
