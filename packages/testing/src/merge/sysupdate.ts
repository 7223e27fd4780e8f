import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openStore } from '@flatcar/core/engine';
import type { Host } from '../hosts.ts';
import { NGINX_ROOT } from './nginx.ts';
import type { RootOptions } from './root.ts';

const packages = ['systemd', 'systemd-container', 'gpg', 'gpgv'];

/** Roots with the real systemd-sysupdate; 254 is the oldest that Debian still has. */
export const SYSUPDATES: readonly { readonly systemd: string; readonly root: RootOptions }[] = [
  { systemd: '254', root: { suite: 'bookworm-backports', packages } },
  { systemd: '257', root: NGINX_ROOT },
  // It loads libcurl only to download, so no package depends on it.
  { systemd: 'the newest', root: { suite: 'sid', packages: [...packages, 'libcurl4t64'] } },
];

/** A host that updates one extension from a published tree. */
export interface Updated {
  /** Runs systemd-sysupdate for the extension; returns its output. */
  sysupdate(...args: string[]): Promise<string>;
  /** Names of the images on the host. */
  installed(): Promise<string[]>;
  /** Name of the image that a link leads to, as systemd-sysext sees it. */
  current(link: string): Promise<string>;
}

/** Installs a keyring and an extension's transfer file on a host, and removes what it had of the extension. */
export async function updated(host: Host, name: string, keyring: string, transfer: string): Promise<Updated> {
  const folder = `/etc/sysupdate.${name}.d`;
  const clean = `rm -rf /opt/extensions/${name} /etc/extensions/${name}-* /etc/extensions/${name}.raw ${folder}`;
  await host.run(['sh', '-c', `${clean}; mkdir -p ${folder} /opt/extensions/${name} /etc/extensions /etc/systemd`]);
  await openStore().withTemp(async (temp) => {
    await writeFile(join(temp, 'transfer'), transfer);
    await host.copyIn(join(temp, 'transfer'), `${folder}/${name}.conf`);
  });
  await host.copyIn(keyring, '/etc/systemd/import-pubring.gpg');
  return {
    sysupdate: (...args) => host.run(['/usr/lib/systemd/systemd-sysupdate', '-C', name, ...args]),
    installed: async () => (await host.run(['ls', `/opt/extensions/${name}`])).split('\n').filter(Boolean),
    current: async (link) => (await host.run(['readlink', '-f', `/etc/extensions/${link}`])).split('/').at(-1) ?? '',
  };
}
