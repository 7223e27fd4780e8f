import { testExtension, testRealUse } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['qemu-ga', '--version'], says: 'version' }],
  units: ['qemu-guest-agent.service'],
  paths: ['/etc/qemu/fsfreeze-hook'],
  machine: {
    // The machine has no such port: the service must skip itself, not fail.
    answers: [
      {
        run: 'systemctl show --property=ConditionResult,ActiveState --value qemu-guest-agent.service',
        says: /^(?:no\ninactive|inactive\nno)$/,
      },
      { run: 'systemctl is-failed qemu-guest-agent.service || true', says: /^inactive$/ },
    ],
  },
});

/** Starts the agent on a socket instead of a port of a machine, and sends it commands as a hypervisor does. */
const asked = (...commands: readonly object[]): string => `
qemu-ga --method=unix-listen --path="$PWD/agent.sock" --pidfile="$PWD/pid" --statedir="$PWD" --fsfreeze-hook="$PWD/hook" --logfile="$PWD/log" &
for _ in $(seq 50); do [ -S agent.sock ] && break; sleep 0.2; done
printf '%s\\n' ${commands.map((one) => `'${JSON.stringify(one)}'`).join(' ')} | socat -t 5 - UNIX-CONNECT:agent.sock`;
const except = { bare: 'it has no client of Unix sockets', emulated: 'it has no client of Unix sockets' };

testRealUse(import.meta.dirname, {
  packages: ['socat'],
  uses: [
    {
      does: 'answers the hypervisor, with its version',
      run: asked({ execute: 'guest-ping' }, { execute: 'guest-info' }),
      gives: /^\{"return": \{\}\}\n\{"return": \{"version": "\d+\.\d+\.\d+"/,
      except,
    },
    {
      does: "tells the machine's addresses, name and system",
      run: asked({ execute: 'guest-network-get-interfaces' }, { execute: 'guest-get-osinfo' }),
      gives: /"name": "lo"[^]*"id": "flatcar"/,
      except,
    },
    {
      does: 'reads a file for the hypervisor',
      run: `echo hello >file\n${asked({ execute: 'guest-file-open', arguments: { path: '/etc/os-release' } })}`,
      gives: /^\{"return": \d+\}$/,
      except,
    },
    {
      does: 'offers only the commands that the operator allows (`--allow-rpcs`)',
      run: "qemu-ga --block-rpcs=help | grep -c -e '^guest-exec$' -e '^guest-fsfreeze-freeze$'",
      gives: '2',
    },
  ],
});
