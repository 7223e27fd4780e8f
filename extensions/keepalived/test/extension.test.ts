import { expect, testExtension, testRealUse } from '@flatcar/testing';

const CONFIG = `vrrp_instance one {
  interface lo
  state MASTER
  virtual_router_id 7
  priority 200
  advert_int 1
  virtual_ipaddress {
    192.0.2.9/32
  }
}
`;

testExtension(import.meta.dirname, {
  tls: 'its checks of servers (SSL_GET) do not verify certificates',
  commands: [{ run: ['genhash', '--help'], says: /Usage:/ }],
  units: ['keepalived.service'],
  paths: ['/etc/keepalived/keepalived.config-opts', '/etc/default/keepalived'],
  // Without the file that tmpfiles.d links, the program ends.
  async also(host, arch, { version }) {
    expect(await host.run(['keepalived', '--version'], { arch })).toContain(`Keepalived v${version}`);
  },
  machine: {
    files: { '/etc/keepalived/keepalived.conf': CONFIG },
    active: ['keepalived.service'],
    reloads: ['keepalived.service'],
    answers: [{ run: 'ip -brief address show dev lo', says: /192\.0\.2\.9/ }],
    async also(machine) {
      await machine.run('echo nonsense >>/etc/keepalived/keepalived.conf');
      expect((await machine.ask('systemctl reload keepalived.service')).code, 'a reload of a wrong configuration').not.toBe(0);
      expect(await machine.run('ip -brief address show dev lo')).toContain('192.0.2.9');
    },
  },
});

/** What tmpfiles.d does on a node. */
const LINKED = `mkdir -p /etc/keepalived; ln -sf /usr/share/keepalived/etc/keepalived/keepalived.config-opts /etc/keepalived/`;

/** Runs a script in a network of its own, which has one link. */
const alone = (script: string): string => `${LINKED}
cat >keepalived.conf <<'END'
${CONFIG.replace('interface lo', 'interface lan')}END
cat >script <<'END'
ip link add lan type veth peer name far
ip link set far up
ip address add 192.0.2.2/24 dev lan
ip link set lan up
keepalived --dont-fork --log-console --use-file keepalived.conf --pid k.pid --vrrp_pid v.pid --checkers_pid c.pid >log 2>&1 &
${script}
END
unshare --net sh -e script`;
const except = {
  bare: 'a bare root makes no network namespaces',
  emulated: 'qemu-user does not pass on the messages that add an address',
};

testRealUse(import.meta.dirname, {
  packages: ['iproute2', 'util-linux'],
  uses: [
    {
      does: 'takes over a virtual address (VRRP), and gives it up when it ends',
      run: alone(`
for _ in $(seq 150); do ip -brief address show dev lan | grep -q 192.0.2.9 && break; sleep 0.2; done
ip -brief address show dev lan | grep -o 192.0.2.9
kill $!
for _ in $(seq 50); do ip -brief address show dev lan | grep -q 192.0.2.9 || break; sleep 0.2; done
ip -brief address show dev lan | grep -c 192.0.2.9 || true`),
      gives: '192.0.2.9\n0',
      except,
    },
    {
      does: 'reports the line of a mistake (`--config-test`)',
      run: `${LINKED}
printf 'vrrp_instance one {\\n  interface lo\\n  nonsense\\n}\\n' >k.conf
! keepalived --config-test --use-file k.conf 2>&1`,
      gives: /k\.conf: Line 3\) Unknown keyword 'nonsense'/,
    },
  ],
});
