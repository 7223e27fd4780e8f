const SERVICE = `[Unit]
Description=Newer images of extension %i
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
# Images are distinguished by their folder: the name of a link may begin with the name of another extension.
ExecStartPre=/bin/sh -c 'readlink /etc/extensions/*.raw /var/lib/confexts/*.raw | grep -F /opt/extensions/%i/ >/run/extension-update-%i || true'
ExecStart=/usr/lib/systemd/systemd-sysupdate -C %i update
# systemd merges a newer image at the next boot; programs that schedule reboots look for this file.
ExecStartPost=/bin/sh -c 'readlink /etc/extensions/*.raw /var/lib/confexts/*.raw | grep -F /opt/extensions/%i/ | cmp -s - /run/extension-update-%i || touch /run/reboot-required'
`;
const TIMER = `[Unit]
Description=Looks for newer images of extension %i

[Timer]
OnBootSec=15min
OnCalendar=daily
RandomizedDelaySec=4h
Persistent=yes

[Install]
WantedBy=timers.target
`;

/** A unit of a node: its text, or a unit that exists already and is enabled. */
export interface NodeUnit {
  readonly name: string;
  readonly enabled?: true;
  readonly contents?: string;
}

/** Units that update the images of extensions daily, for nodes without extension-stager. */
export function updateUnits(names: readonly string[]): NodeUnit[] {
  return [
    { name: 'extension-update@.service', contents: SERVICE },
    { name: 'extension-update@.timer', contents: TIMER },
    ...names.map((name) => ({ name: `extension-update@${name}.timer`, enabled: true as const })),
  ];
}
