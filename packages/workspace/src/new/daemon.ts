import { basename } from 'node:path';
import { HOST_PROGRAMS, HOST_USERS, UserError } from '@flatcar/core/engine';
import { configOf, type CopiedConfig } from './daemon-config.ts';
import { folderLines, valuesOf } from './daemon-folders.ts';
import type { PackagesFound } from './inspect-packages.ts';
import { accountsIn, groupOf, sysusersOf, type Account } from './maintainer-scripts.ts';
import type { ScaffoldFile } from './plan.ts';

/** A service of packages, with everything that Debian's maintainer scripts would do for it. */
export interface Daemon {
  readonly unit: ScaffoldUnit;
  /** Files besides the unit, by their paths in the image: users, the unit that creates them, folders, configuration. */
  readonly files: readonly ScaffoldFile[];
  /** Files of the packages that it needs at run time, as in `data` of `debian()`. */
  readonly data: readonly string[];
  /** The user that the service runs as, if it has its own. */
  readonly user?: string | undefined;
  /** What a person should know. */
  readonly notes: readonly string[];
}

interface ScaffoldUnit {
  readonly name: string;
  readonly text: string;
}

/** Users that every Debian has (base-passwd) and Flatcar does not, with their homes: packages use them without creating them. */
const DEBIAN_USERS: Readonly<Record<string, string>> = {
  'www-data': '/var/www',
  proxy: '-',
  backup: '/var/backups',
  list: '/var/list',
  irc: '/run/ircd',
  uucp: '/var/spool/uucp',
};

/** The users among those that a unit or a configuration names: `user www-data;`. */
function borrowedUsers(unit: string, configs: readonly CopiedConfig[]): string[] {
  const directive = (name: string): RegExp => new RegExp(`^\\s*(?:run_?as|user|group)[\\s=:]+["']?${name}(?![\\w-])`, 'im');
  return Object.keys(DEBIAN_USERS).filter(
    (name) => !HOST_USERS.has(name) && [unit, ...configs.map(({ text = '' }) => text)].some((one) => directive(name).test(one)),
  );
}

/** Services of Flatcar that conflict with a package, by Debian's name for the role. */
const HOST_DAEMONS: Readonly<Record<string, { readonly unit: string; readonly what: string }>> = {
  'time-daemon': { unit: 'systemd-timesyncd.service', what: 'sets the clock of Flatcar' },
};

/** Paths of the programs that a unit runs. */
const executed = (unit: string): string[] => [...unit.matchAll(/^Exec\w+=[@:+!|-]*(\/\S+)/gm)].map(([, path = '']) => path);

/** Commands of a unit that may fail (`-`) and whose program neither the packages nor Flatcar have: they would have no effect. */
const idleCommands = (unit: string, { programs, paths }: PackagesFound): string[] =>
  [...unit.matchAll(/^Exec\w+=[@:+!|]*-[@:+!|]*(\/\S+).*$/gm)].flatMap(([line, path = '']) =>
    HOST_PROGRAMS.has(path) || paths.has(path.slice(1)) || programs.includes(basename(path)) ? [] : [line],
  );

/** Names of the packages' programs that a unit runs. */
export function programsOfUnit(found: PackagesFound, unit: string): string[] {
  return [
    ...new Set(
      executed(unit)
        .filter((path) => path.startsWith('/usr/bin/'))
        .map((path) => basename(path))
        .filter((name) => found.programs.includes(name)),
    ),
  ];
}

/** Adds lines to the [Unit] section, once each. */
const withUnitLines = (unit: string, lines: readonly string[]): string =>
  unit.replace(
    /^\[Unit\]\n/m,
    () =>
      `[Unit]\n${lines
        .filter((line) => !unit.includes(`${line}\n`))
        .map((line) => `${line}\n`)
        .join('')}`,
  );

/** The text of a service in the packages, by its name. Throws a UserError if there is none. */
export function serviceOf({ services }: PackagesFound, name: string): string {
  const text = services.get(name);
  if (text === undefined)
    throw new UserError(`the packages have no ${name}`, {
      next: `pass --unit 'program --flags' to write one; services of the packages: ${[...services.keys()].join(', ') || 'none'}`,
    });
  return text;
}

/** The unit that creates users and their folders: up to major 4593 systemd creates users before it merges extensions. */
function userUnit(name: string, users: readonly string[], folders: readonly string[]): string {
  return [
    '[Unit]',
    `Description=Users and folders of ${name}`,
    '# Up to major 4593 systemd creates users before it merges the image. A unit of its own: systemd looks up User= for every command of a unit.',
    'After=systemd-sysusers.service',
    '',
    '[Service]',
    'Type=oneshot',
    'RemainAfterExit=yes',
    `ExecStart=/usr/bin/systemd-sysusers ${users.join(' ')}`,
    ...(folders.length === 0 ? [] : [`ExecStart=/usr/bin/systemd-tmpfiles --create ${folders.join(' ')}`]),
    '',
  ].join('\n');
}

/** The files of sysusers.d, and the users that they create: those of the packages, else what their scripts create. */
function usersOf(name: string, found: PackagesFound): { readonly settings: Map<string, string>; readonly accounts: readonly Account[] } {
  const isUsers = (path: string): boolean => path.includes('/sysusers.d/');
  // `u!` is new in systemd 257.
  const settings = new Map([...found.settings].map(([path, text]) => [path, isUsers(path) ? text.replaceAll(/^u!/gm, 'u') : text]));
  const shipped = [...settings].filter(([path]) => isUsers(path));
  if (shipped.length > 0) return { settings, accounts: shipped.flatMap(([, text]) => accountsIn(text)) };
  const { accounts, lines } = sysusersOf(found.scripts);
  if (lines.length > 0) settings.set(`usr/lib/sysusers.d/${name}.conf`, `# As Debian's scripts make them.\n${lines.join('\n')}\n`);
  return { settings, accounts };
}

/** Appends text to one of several files. */
function append(settings: Map<string, string>, path: string, text: string): void {
  settings.set(path, `${settings.get(path) ?? ''}${text}`);
}

/** Lines of tmpfiles.d(5) that copy configuration to /etc; the first user's group may read keys and passwords. */
function copyLines(copied: readonly CopiedConfig[], [account]: readonly Account[]): string[] {
  const reader = account === undefined ? undefined : groupOf(account);
  return copied.map(({ to, from }) =>
    reader !== undefined && /(?:key|secret|passw)[\w.-]*$/i.test(to) ? `C ${to} 0640 root ${reader} - ${from}` : `C ${to} - - - - ${from}`,
  );
}

const namesBelow = (settings: ReadonlyMap<string, string>, folder: string): string[] =>
  [...settings.keys()].filter((path) => path.includes(`/${folder}/`)).map((path) => basename(path));

/**
 * Everything that a service of packages needs in an image: the users that maintainer scripts create, with a unit that creates them first, folders
 * below /var, configuration that is copied to /etc, and conflicts with services of Flatcar.
 */
export function daemonOf(name: string, unit: ScaffoldUnit, found: PackagesFound): Daemon {
  const idle = idleCommands(unit.text, found);
  const text = idle.reduce((all, line) => all.replace(`${line}\n`, ''), unit.text);
  const { settings, accounts } = usersOf(name, found);
  const copied = configOf(name, found, unit.text);
  const borrowed = borrowedUsers(unit.text, copied).filter((user) => accounts.every((one) => one.name !== user));
  if (borrowed.length > 0) {
    const lines = borrowed.map((user) => `u ${user} - "A user of Debian" ${DEBIAN_USERS[user] ?? '-'}\n`);
    append(settings, `usr/lib/sysusers.d/${name}.conf`, `# Every Debian has it, and no Flatcar.\n${lines.join('')}`);
  }
  const lines = [...folderLines(found, unit.text, accounts), ...copyLines(copied, accounts)];
  if (lines.length > 0) append(settings, `usr/lib/tmpfiles.d/${name}.conf`, `${lines.join('\n')}\n`);
  const hosts = found.conflicts.flatMap((one) => HOST_DAEMONS[one] ?? []);
  const users = namesBelow(settings, 'sysusers.d');
  const userName = `${name}-user.service`;
  const unitLines = [
    ...hosts.flatMap((host) => [`Conflicts=${host.unit}`, `After=${host.unit}`]),
    ...(users.length === 0 ? [] : [`Requires=${userName}`, `After=${userName}`]),
  ];
  return {
    unit: { name: unit.name, text: withUnitLines(text, unitLines) },
    files: [
      ...[...settings].map(([path, content]) => ({ path, text: content })),
      ...(users.length === 0
        ? []
        : [{ path: `usr/lib/systemd/system/${userName}`, text: userUnit(name, users, namesBelow(settings, 'tmpfiles.d')) }]),
      ...copied.flatMap(({ from, text: content }) => (content === undefined ? [] : [{ path: from.slice(1), text: content }])),
    ],
    data: [
      ...copied.flatMap(({ from, text: content }) => (content === undefined ? [from.slice(1)] : [])),
      ...[...new Set(executed(unit.text))]
        .map((path) => path.slice(1))
        .filter((path) => !path.startsWith('usr/bin/') && found.paths.has(path)),
    ],
    user: valuesOf(unit.text, 'User').find((user) => accounts.some(({ name: own }) => own === user)),
    notes: [
      ...idle.map((line) => `left out of ${unit.name}: ${line}, because nothing in the image or on Flatcar can run it`),
      ...hosts.map((host) => `${host.unit} ${host.what}: the service stops it (Conflicts=)`),
      ...(copied.length === 0
        ? []
        : [`copied to /etc on the first boot, unless it exists there: ${copied.map(({ to }) => to).join(', ')}`]),
    ],
  };
}
