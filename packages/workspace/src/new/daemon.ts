import { basename } from 'node:path';
import { HOST_PROGRAMS, HOST_USERS, UserError } from '@flatcar/core/engine';
import type { PackagesFound } from './inspect-debian.ts';
import type { ScaffoldFile } from './scaffold.ts';

/** A service out of packages, with everything that Debian's maintainer scripts would do for it. */
export interface Daemon {
  readonly unit: ScaffoldUnit;
  /** Beside the unit, by their paths in the image: users, the unit that makes them, folders, configuration. */
  readonly files: readonly ScaffoldFile[];
  /** Files of the packages that it needs at run time, as `data` of `debian()` has them. */
  readonly data: readonly string[];
  /** The user that the service runs as, where it has one of its own. */
  readonly user?: string;
  /** What a person must decide. */
  readonly notes: readonly string[];
}

interface ScaffoldUnit {
  readonly name: string;
  readonly text: string;
}

/** Words of a shell command; quotes are taken off. */
const wordsOf = (command: string): string[] =>
  [...command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, double, single, plain]) => double ?? single ?? plain ?? '');

/** Calls of some commands in a script, as words. */
function callsOf(script: string, commands: string): string[][] {
  const calls = new RegExp(`(?:^|[;&|({]|\\b(?:then|do|else)\\b)\\s*((?:${commands})\\s[^;&|>)\\n]*)`, 'gm');
  return [...script.matchAll(calls)].map(([, call = '']) => wordsOf(call.replace(/\s+\d$/, '')));
}

interface Account {
  readonly name: string;
  readonly comment: string;
  readonly home: string;
  /** Its primary group where that has another name. */
  readonly group?: string;
}

/** Its primary group, which is called as the user unless specified. */
const groupOf = ({ name, group }: Account): string => group ?? name;

/** Options with a value, of adduser(8), useradd(8), addgroup(8) and groupadd(8). */
const VALUED =
  /^(?:--(?:gecos|comment|home(?:-dir)?|shell|ingroup|uid|gid|groups|base-dir|conf|firstuid|lastuid|firstgid|lastgid|password|skel)|-[cdsgGubpk])$/;

function optionsOf(words: readonly string[]): { options: Map<string, string>; names: string[] } {
  const options = new Map<string, string>();
  const names: string[] = [];
  for (let index = 1; index < words.length; index += 1) {
    const word = words[index] ?? '';
    const [, key, value] = /^(--[\w-]+)=(.*)$/.exec(word) ?? [];
    if (key !== undefined) options.set(key, value ?? '');
    else if (VALUED.test(word)) options.set(word, words[(index += 1)] ?? '');
    else if (!word.startsWith('-')) names.push(word);
  }
  return { options, names };
}

const isName = (text: string): boolean => /^[a-z_][a-z0-9_-]*$/i.test(text);

/** Users and groups that maintainer scripts make, as lines of sysusers.d(5). */
function sysusersOf(scripts: readonly string[]): { accounts: Account[]; lines: string[] } {
  const accounts = new Map<string, Account>();
  const groups = new Set<string>();
  const members = new Set<string>();
  for (const words of scripts.flatMap((script) => callsOf(script, 'adduser|useradd|addgroup|groupadd|usermod'))) {
    const { options, names } = optionsOf(words);
    const [first = '', second] = names;
    const get = (...keys: readonly string[]): string => keys.map((key) => options.get(key)).find((one) => one !== undefined) ?? '';
    if (!isName(first)) continue; // a variable that is not plain, or a word of the shell
    if (/group/.test(words[0] ?? '')) groups.add(first);
    else if (words[0] === 'usermod' || (words[0] === 'adduser' && second !== undefined && isName(second))) {
      const group = second ?? get('-G', '--groups');
      if (isName(group)) members.add(`m ${words[0] === 'usermod' ? first : first} ${group}`);
    } else {
      const home = get('--home', '--home-dir', '-d');
      const group = get('--ingroup', '--gid', '-g');
      accounts.set(first, {
        name: first,
        comment: get('--gecos', '--comment', '-c').replace(/,+$/, ''),
        home: /^\/(?!nonexistent)/.test(home) ? home.replace(/\/$/, '') : '-',
        ...(isName(group) && group !== first && group !== 'nogroup' ? { group } : {}),
      });
    }
  }
  const users = [...accounts.values()];
  const own = [...groups].filter((name) => !accounts.has(name) && !HOST_USERS.has(name));
  return {
    accounts: users,
    lines: [
      ...own.map((name) => `g ${name} -`),
      ...users.map(({ name, comment, home, group }) =>
        `u ${name} ${group === undefined ? '-' : `-:${group}`} ${comment === '' ? '-' : `"${comment}"`} ${home}`.replace(/( -)+$/, ' -'),
      ),
      ...members,
    ],
  };
}

/** Accounts in the text of a sysusers.d file. */
const accountsIn = (text: string): Account[] =>
  [...text.matchAll(/^u!?\s+(\S+)\s+\S+(?:\s+("[^"]*"|\S+))?(?:\s+(\S+))?/gm)].map(([, name = '', comment = '', home = '-']) => ({
    name,
    comment,
    home,
  }));

/** Values of a unit's setting, from all its lines. */
const valuesOf = (unit: string, key: string): string[] =>
  [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].flatMap(([, value = '']) => value.trim().split(/\s+/));

/** Folders that systemd makes for a unit by itself. */
function ownFolders(unit: string): Set<string> {
  const roots = { State: '/var/lib', Logs: '/var/log', Cache: '/var/cache', Runtime: '/run' };
  return new Set(
    Object.entries(roots).flatMap(([kind, root]) =>
      valuesOf(unit, `${kind}Directory`).map((name) => `${root}/${name.split(':')[0] ?? ''}`),
    ),
  );
}

/** `d` lines of tmpfiles.d(5) for folders that packages bring or their scripts make, with the owners that scripts give them. */
function folderLines(found: PackagesFound, unit: string, accounts: readonly Account[]): string[] {
  const folders = new Map(found.folders);
  const owners = new Map<string, [user: string, group: string]>();
  const isState = (path: string): boolean => /^\/(?:var\/(?:lib|log|cache|spool|opt)|run)\/[\w./-]+$/.test(path);
  const tidy = (path: string): string => path.replace(/^\/var\/run\//, '/run/').replace(/\/$/, '');
  for (const script of found.scripts) {
    for (const words of callsOf(script, 'mkdir')) {
      const mode = words.findIndex((word) => word === '-m' || word === '--mode');
      for (const path of words.map(tidy).filter(isState))
        folders.set(path, (mode === -1 ? '0755' : (words[mode + 1] ?? '')).padStart(4, '0'));
    }
    for (const words of callsOf(script, 'chown')) {
      const [owner = '', ...paths] = words.slice(1).filter((word) => !word.startsWith('-'));
      const [user = 'root', group = user] = owner.split(/[:.]/);
      for (const path of paths.map(tidy).filter(isState)) owners.set(path, [user, group]);
    }
  }
  for (const { home } of accounts) if (isState(home) && !home.startsWith('/var/lib/misc')) folders.set(home, folders.get(home) ?? '0755');
  const known = [...ownFolders(unit)];
  const covered = new Set(
    [...found.settings]
      .filter(([path]) => path.includes('/tmpfiles.d/'))
      .flatMap(([, text]) => [...text.matchAll(/^\w\S*\s+(\S+)/gm)].map(([, path = '']) => tidy(path))),
  );
  const [runsAs] = valuesOf(unit, 'User');
  const daemon = runsAs ?? (accounts.length === 1 ? accounts[0]?.name : undefined) ?? 'root';
  const users = new Set([...accounts.map(({ name }) => name), ...HOST_USERS]);
  const groups = new Set([...accounts.map(groupOf), ...HOST_USERS]);
  return [...folders]
    .filter(([path]) => !known.includes(path) && !covered.has(path) && !known.some((one) => path.startsWith(`${one}/`)))
    .map(([path, mode]) => {
      const account = accounts.find(({ name }) => name === daemon);
      const [user, group] = owners.get(path) ?? [daemon, account === undefined ? daemon : groupOf(account)];
      return `d ${path} ${mode} ${users.has(user) ? user : '-'} ${groups.has(group) ? group : '-'} -`;
    })
    .toSorted();
}

/** Folders below /etc of programs that an image's host does not have, or that are its own. */
const NOT_HERE =
  /^\/etc\/(?:init\.d|rc\w*\.d|default|logrotate\.d|apparmor\.d|network|ppp|dhcp|cron\.\w+|bash_completion\.d|NetworkManager|resolvconf|ufw|insserv(?:\.conf)?(?:\.d)?|sv|runit|service|rsyslog\.d|logcheck|apport|apt|dpkg|alternatives|X11|emacs|monit|sudoers\.d|udev|systemd|modprobe\.d|sysctl\.d)\//;

/** What is copied to /etc on the first boot: by its path there, where from. */
interface Copied {
  readonly to: string;
  readonly from: string;
  /** Its text, where this repository ships it. */
  readonly text?: string;
}

function configOf(name: string, found: PackagesFound, unit: string): Copied[] {
  const copied = new Map<string, Copied>();
  // ucf and cp of a file of the package: it comes out of the package when the image is built.
  for (const words of found.scripts.flatMap((script) => callsOf(script, 'ucf|cp|install'))) {
    const paths = words.slice(1).filter((word) => word.startsWith('/'));
    const [from = '', to = ''] = paths.slice(-2);
    if (!found.paths.has(from.slice(1)) || !/^\/etc\/[\w./@-]+$/.test(to) || to.endsWith('/')) continue;
    copied.set(to, { to, from });
  }
  for (const [to, text] of found.config) {
    const isWanted =
      !NOT_HERE.test(to) || (to.startsWith('/etc/default/') && new RegExp(`^EnvironmentFile=.*${RegExp.escape(to)}\\b`, 'm').test(unit));
    if (isWanted && !copied.has(to)) copied.set(to, { to, from: `/usr/share/${name}${to}`, text });
  }
  return [...copied.values()].toSorted((a, b) => (a.to < b.to ? -1 : 1));
}

/** Users that every Debian has and no Flatcar (base-passwd), with their homes: packages use them and make none. */
const DEBIAN_USERS: Readonly<Record<string, string>> = {
  'www-data': '/var/www',
  proxy: '-',
  backup: '/var/backups',
  list: '/var/list',
  irc: '/run/ircd',
  uucp: '/var/spool/uucp',
};

/** Of those the users that a unit or a configuration says to run as: `user www-data;`. */
function borrowedUsers(unit: string, configs: readonly Copied[]): string[] {
  const directive = (name: string): RegExp => new RegExp(`^\\s*(?:run_?as|user|group)[\\s=:]+["']?${name}(?![\\w-])`, 'im');
  return Object.keys(DEBIAN_USERS).filter(
    (name) => !HOST_USERS.has(name) && [unit, ...configs.map(({ text = '' }) => text)].some((one) => directive(name).test(one)),
  );
}

/** What Flatcar runs by itself of what only one program of a machine can do, by Debian's name for all of them. */
const HOST_DAEMONS: Readonly<Record<string, { readonly unit: string; readonly what: string }>> = {
  'time-daemon': { unit: 'systemd-timesyncd.service', what: 'sets the clock of Flatcar' },
};

/** Paths that a unit runs. */
const executed = (unit: string): string[] => [...unit.matchAll(/^Exec\w+=[@:+!|-]*(\/\S+)/gm)].map(([, path = '']) => path);

/** Commands of a unit that may fail (`-`) and run what neither the packages nor Flatcar have: they would do nothing here. */
const idleCommands = (unit: string, { programs, paths }: PackagesFound): string[] =>
  [...unit.matchAll(/^Exec\w+=[@:+!|]*-[@:+!|]*(\/\S+).*$/gm)].flatMap(([line, path = '']) =>
    HOST_PROGRAMS.has(path) || paths.has(path.slice(1)) || programs.includes(basename(path)) ? [] : [line],
  );

/** Programs of the packages that a unit runs, by name. */
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

/** A service that packages bring, by its name. */
export function serviceOf({ services }: PackagesFound, name: string): string {
  const text = services.get(name);
  if (text === undefined)
    throw new UserError(`the packages have no ${name}`, {
      next: `they have ${[...services.keys()].join(', ') || 'none'}; write one by --unit 'program --flags'`,
    });
  return text;
}

/** The unit that makes users and their folders: up to major 4593 systemd makes users before it merges extensions. */
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

/**
 * Everything that a service of packages needs in an image: the users that maintainer scripts make and a unit that makes them first, folders
 * below /var, what is copied to /etc, and what it conflicts with on the host.
 */
export function daemonOf(name: string, unit: ScaffoldUnit, found: PackagesFound): Daemon {
  const idle = idleCommands(unit.text, found);
  const text = idle.reduce((all, line) => all.replace(`${line}\n`, ''), unit.text);
  const settings = new Map(
    [...found.settings].map(([path, text]) => [path, path.includes('/sysusers.d/') ? text.replaceAll(/^u!/gm, 'u') : text]),
  ); // systemd 257
  const made = sysusersOf(found.scripts);
  const shipped = [...settings].filter(([path]) => path.includes('/sysusers.d/'));
  const accounts = [...shipped.flatMap(([, text]) => accountsIn(text)), ...(shipped.length === 0 ? made.accounts : [])];
  if (shipped.length === 0 && made.lines.length > 0)
    settings.set(`usr/lib/sysusers.d/${name}.conf`, `# As Debian's scripts make them.\n${made.lines.join('\n')}\n`);
  const copied = configOf(name, found, unit.text);
  const borrowed = borrowedUsers(unit.text, copied).filter((user) => accounts.every((one) => one.name !== user));
  if (borrowed.length > 0) {
    const path = `usr/lib/sysusers.d/${name}.conf`;
    const lines = borrowed.map((user) => `u ${user} - "A user of Debian" ${DEBIAN_USERS[user] ?? '-'}\n`);
    settings.set(path, `${settings.get(path) ?? ''}# Every Debian has it, and no Flatcar.\n${lines.join('')}`);
  }
  const secret = accounts[0] === undefined ? undefined : groupOf(accounts[0]);
  const copies = copied.map(({ to, from }) =>
    secret !== undefined && /(?:key|secret|passw)[\w.-]*$/i.test(to) ? `C ${to} 0640 root ${secret} - ${from}` : `C ${to} - - - - ${from}`,
  );
  const folders = folderLines(found, unit.text, accounts);
  const tmpfiles = `usr/lib/tmpfiles.d/${name}.conf`;
  if (folders.length + copies.length > 0) settings.set(tmpfiles, `${settings.get(tmpfiles) ?? ''}${[...folders, ...copies].join('\n')}\n`);
  const hosts = found.conflicts.flatMap((one) => HOST_DAEMONS[one] ?? []);
  const users = [...settings.keys()].filter((path) => path.includes('/sysusers.d/')).map((path) => basename(path));
  const userName = `${name}-user.service`;
  const lines = [
    ...hosts.flatMap((host) => [`Conflicts=${host.unit}`, `After=${host.unit}`]),
    ...(users.length === 0 ? [] : [`Requires=${userName}`, `After=${userName}`]),
  ];
  const rules = [...settings.keys()].filter((path) => path.includes('/tmpfiles.d/')).map((path) => basename(path));
  return {
    unit: { name: unit.name, text: withUnitLines(text, lines) },
    files: [
      ...[...settings].map(([path, text]) => ({ path, text })),
      ...(users.length === 0 ? [] : [{ path: `usr/lib/systemd/system/${userName}`, text: userUnit(name, users, rules) }]),
      ...copied.flatMap(({ from, text }) => (text === undefined ? [] : [{ path: from.slice(1), text }])),
    ],
    data: [
      ...copied.flatMap(({ from, text }) => (text === undefined ? [from.slice(1)] : [])),
      ...[...new Set(executed(unit.text))]
        .map((path) => path.slice(1))
        .filter((path) => !path.startsWith('usr/bin/') && found.paths.has(path)),
    ],
    user: valuesOf(unit.text, 'User').find((user) => accounts.some(({ name: own }) => own === user)),
    notes: [
      ...idle.map((line) => `left out of ${unit.name}: ${line}, which nothing here can run`),
      ...hosts.map((host) => `${host.unit} ${host.what}: the service stops it (Conflicts=)`),
      ...(copied.length === 0 ? [] : [`copied to /etc on the first boot, where there is none: ${copied.map(({ to }) => to).join(', ')}`]),
    ],
  };
}

/** File capabilities that maintainer scripts set: an image has none. */
export function capabilitiesOf({ scripts }: PackagesFound): { readonly program: string; readonly capabilities: string }[] {
  return scripts
    .flatMap((script) => callsOf(script, 'setcap'))
    .flatMap(([, capabilities = '', program = '']) => (/^cap_/i.test(capabilities) ? [{ program: basename(program), capabilities }] : []));
}
