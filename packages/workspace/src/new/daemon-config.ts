import type { PackagesFound } from './inspect-packages.ts';
import { callsOf } from './maintainer-scripts.ts';

/** Folders below /etc that belong to programs that Flatcar does not have, or to Flatcar itself. */
const NOT_HERE =
  /^\/etc\/(?:init\.d|rc\w*\.d|default|logrotate\.d|apparmor\.d|network|ppp|dhcp|cron\.\w+|bash_completion\.d|NetworkManager|resolvconf|ufw|insserv(?:\.conf)?(?:\.d)?|sv|runit|service|rsyslog\.d|logcheck|apport|apt|dpkg|alternatives|X11|emacs|monit|sudoers\.d|udev|systemd|modprobe\.d|sysctl\.d)\//;

/** Examples, which no program reads. */
const EXAMPLE = /\.(?:sample|example|dist)$/;

/** A file that is copied to /etc on the first boot. */
export interface CopiedConfig {
  readonly to: string;
  readonly from: string;
  /** Its text, if it must be below files/ of the extension; undefined if the package has it below usr/. */
  readonly text?: string;
}

/** Configuration of packages that a service needs: what their scripts copy to /etc, and files that they have there. */
export function configOf(name: string, found: PackagesFound, unit: string): CopiedConfig[] {
  const copied = new Map<string, CopiedConfig>();
  // A script copies a file of the package, which the image has as well.
  for (const words of found.scripts.flatMap((script) => callsOf(script, 'ucf|cp|install'))) {
    const paths = words.slice(1).filter((word) => word.startsWith('/'));
    const [from = '', to = ''] = paths.slice(-2);
    if (!found.paths.has(from.slice(1)) || !/^\/etc\/[\w./@-]+$/.test(to) || to.endsWith('/')) continue;
    copied.set(to, { to, from });
  }
  for (const [to, text] of found.config) {
    if (EXAMPLE.test(to)) continue;
    const isWanted =
      !NOT_HERE.test(to) || (to.startsWith('/etc/default/') && new RegExp(`^EnvironmentFile=.*${RegExp.escape(to)}\\b`, 'm').test(unit));
    if (isWanted && !copied.has(to)) copied.set(to, { to, from: `/usr/share/${name}${to}`, text });
  }
  return [...copied.values()].toSorted((a, b) => (a.to < b.to ? -1 : 1));
}
