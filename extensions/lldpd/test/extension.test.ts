import { testExtension, testRealUse } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  tls: 'libcrypto comes with its SNMP library, which has no TLS connection of its own to verify',
  commands: [
    { run: ['lldpd', '--version'], says: 'version' },
    { run: ['lldpcli', '--version'], says: 'version' },
  ],
  units: ['lldpd.service', 'lldpd-user.service'],
  machine: {
    // Flags as Debian has them: this one is the name that neighbours are told.
    files: { '/etc/default/lldpd': 'DAEMON_ARGS="-S described-by-the-test"\n' },
    active: ['lldpd.service'],
    runsAs: { 'lldpd.service': '_lldpd' },
    answers: [{ run: 'lldpcli show chassis', says: /SysName:[^]*SysDescr: +described-by-the-test/ }],
  },
});

/** Two hosts on one cable: network namespaces with a daemon each, `one` and `two`; what their sockets say is asked of the first. */
const NEIGHBOURS = `
systemd-sysusers >/dev/null 2>&1
mkdir -p /run/lldpd
rm -f /run/one.* /run/two.*
unshare --net sleep 300 &
second=$!
until [ "$(readlink /proc/$second/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
ip link add one type veth peer name two netns $second
ip link set one up
nsenter --target $second --net ip link set two up
lldpd -d -L /usr/bin/lldpcli -u /run/one.socket -I one -S 'the first' >/run/one.log 2>&1 &
nsenter --target $second --net lldpd -d -L /usr/bin/lldpcli -u /run/two.socket -I two -S 'the second' >/run/two.log 2>&1 &
for socket in one two; do for _ in $(seq 150); do [ -S /run/$socket.socket ] && break; sleep 0.2; done; lldpcli -u /run/$socket.socket update >/dev/null; done
for _ in $(seq 150); do lldpcli -u /run/one.socket show neighbors | grep -q SysDescr && break; sleep 0.2; done
`;
const withNeighbours = (script: string): string => `cat >script <<'END'\n${NEIGHBOURS}${script}\nEND\nunshare --net sh -e script`;
const except = {
  bare: 'a bare root has no user for it and makes no network namespaces',
  emulated: 'qemu-user has no packet sockets',
};

testRealUse(import.meta.dirname, {
  packages: ['iproute2', 'util-linux'],
  uses: [
    {
      does: 'learns who is at the other end of a cable, and tells it who it is',
      run: withNeighbours(
        "for socket in one two; do lldpcli -u /run/$socket.socket show neighbors | grep -o 'SysDescr: .*' | tr -s ' '; done",
      ),
      gives: 'SysDescr: the second\nSysDescr: the first',
      except,
    },
    {
      does: 'shows neighbours as JSON',
      run: withNeighbours('lldpcli -u /run/one.socket -f json show neighbors | tr -d \' \\n\' | grep -o \'"descr":"thesecond"\''),
      gives: '"descr":"thesecond"',
      except,
    },
  ],
});
