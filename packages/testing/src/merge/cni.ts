import { expect } from 'vitest';
import type { Host } from '../hosts.ts';

/** What a node may already have there: its own binary, and a link to one. */
const OWN = `
set -e
cd /opt/cni/bin
rm -f loopback portmap
echo own >loopback
echo other >/run/other-portmap
ln -s /run/other-portmap portmap
systemd-tmpfiles --create --prefix=/opt 2>/run/tmpfiles.log || { cat /run/tmpfiles.log; exit 1; }
cat loopback portmap
readlink bridge
`;

/** The command in README.md that removes the links of an image that is no longer merged. */
const REMOVE = `
set -e
find /opt/cni/bin -lname '/usr/lib/cni/*' -delete
ls /opt/cni/bin
`;

/** CNI plugins of an image are links in /opt/cni/bin: the node's own files there stay the same, whenever systemd-tmpfiles runs. */
export async function expectOwnPluginsStay(host: Host): Promise<void> {
  expect(await host.run(['sh', '-c', OWN])).toBe('own\nother\n/usr/lib/cni/bridge');
  expect(await host.run(['sh', '-c', REMOVE]), 'what is left once the links are removed').toBe('loopback\nportmap');
  await host.run(['sh', '-c', 'rm /opt/cni/bin/*; systemd-tmpfiles --create --prefix=/opt']);
}
