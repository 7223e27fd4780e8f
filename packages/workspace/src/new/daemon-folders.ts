import { HOST_USERS } from '@flatcar/core/engine';
import type { PackagesFound } from './inspect-packages.ts';
import { callsOf, groupOf, type Account } from './maintainer-scripts.ts';

/** Values of a setting in a unit, from all its lines. */
export const valuesOf = (unit: string, key: string): string[] =>
  [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].flatMap(([, value = '']) => value.trim().split(/\s+/));

/** Folders that systemd itself creates for a unit. */
function unitFolders(unit: string): Set<string> {
  const roots = { State: '/var/lib', Logs: '/var/log', Cache: '/var/cache', Runtime: '/run' };
  return new Set(
    Object.entries(roots).flatMap(([kind, root]) =>
      valuesOf(unit, `${kind}Directory`).map((name) => `${root}/${name.split(':')[0] ?? ''}`),
    ),
  );
}

const isState = (path: string): boolean => /^\/(?:var\/(?:lib|log|cache|spool|opt)|run)\/[\w./-]+$/.test(path);
const normalize = (path: string): string => path.replace(/^\/var\/run\//, '/run/').replace(/\/$/, '');

/** Folders below /var and /run with their modes: those in the packages, those that scripts create, and homes of users. */
function stateFolders(found: PackagesFound, accounts: readonly Account[]): Map<string, string> {
  const folders = new Map(found.folders);
  for (const words of found.scripts.flatMap((script) => callsOf(script, 'mkdir'))) {
    const mode = words.findIndex((word) => word === '-m' || word === '--mode');
    for (const path of words.map(normalize).filter(isState))
      folders.set(path, (mode === -1 ? '0755' : (words[mode + 1] ?? '')).padStart(4, '0'));
  }
  for (const { home } of accounts) if (isState(home) && !home.startsWith('/var/lib/misc')) folders.set(home, folders.get(home) ?? '0755');
  return folders;
}

/** Owners that scripts give to folders. */
function ownersOf(scripts: readonly string[]): Map<string, readonly [user: string, group: string]> {
  const owners = new Map<string, readonly [user: string, group: string]>();
  for (const words of scripts.flatMap((script) => callsOf(script, 'chown'))) {
    const [owner = '', ...paths] = words.slice(1).filter((word) => !word.startsWith('-'));
    const [user = 'root', group = user] = owner.split(/[:.]/);
    for (const path of paths.map(normalize).filter(isState)) owners.set(path, [user, group]);
  }
  return owners;
}

/** `d` lines of tmpfiles.d(5) for the folders of a service that neither systemd nor a tmpfiles.d of the packages creates. */
export function folderLines(found: PackagesFound, unit: string, accounts: readonly Account[]): string[] {
  const owners = ownersOf(found.scripts);
  const created = [...unitFolders(unit)];
  const covered = new Set(
    [...found.settings]
      .filter(([path]) => path.includes('/tmpfiles.d/'))
      .flatMap(([, text]) => [...text.matchAll(/^\w\S*\s+(\S+)/gm)].map(([, path = '']) => normalize(path))),
  );
  const [runsAs] = valuesOf(unit, 'User');
  const daemon = runsAs ?? (accounts.length === 1 ? accounts[0]?.name : undefined) ?? 'root';
  const users = new Set([...accounts.map(({ name }) => name), ...HOST_USERS]);
  const groups = new Set([...accounts.map(groupOf), ...HOST_USERS]);
  return [...stateFolders(found, accounts)]
    .filter(([path]) => !covered.has(path) && !created.some((one) => path === one || path.startsWith(`${one}/`)))
    .map(([path, mode]) => {
      const account = accounts.find(({ name }) => name === daemon);
      const [user, group] = owners.get(path) ?? [daemon, account === undefined ? daemon : groupOf(account)];
      return `d ${path} ${mode} ${users.has(user) ? user : '-'} ${groups.has(group) ? group : '-'} -`;
    })
    .toSorted();
}
