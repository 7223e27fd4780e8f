import { dirname } from 'node:path';
import host from '../../model/data/flatcar-host.json' with { type: 'json' };
import type { Rule } from './rule.ts';

/** Programs that every Flatcar has, as a unit may call them. */
export const HOST_PROGRAMS: ReadonlySet<string> = new Set([
  ...['/bin/', '/usr/bin/'].flatMap((folder) => host.bin.map((name) => folder + name)),
  ...['/bin/', '/usr/bin/', '/sbin/', '/usr/sbin/'].flatMap((folder) => host.sbin.map((name) => folder + name)),
  ...host.paths,
]);

/** Users and groups that every Flatcar has. */
export const HOST_USERS: ReadonlySet<string> = new Set([...host.users, ...host.groups]);

/** Files of the host and of its built-in extensions, as paths in an image. */
const HOST_FILES: ReadonlySet<string> = new Set([
  ...[...host.bin, ...host.sbin, ...host.sysexts].map((name) => `usr/bin/${name}`),
  ...host.libraryFolders.flatMap((folder) => host.libraries.map((name) => `${folder}/${name}`)),
  ...host.files.map((path) => path.slice(1)),
]);

/** True for a file that every Flatcar has, by its path on the host. */
export const isHostFile = (path: string): boolean => HOST_FILES.has(path.slice(1)) || HOST_PROGRAMS.has(path);

/** Folders of the file system hierarchy that every Flatcar has, with those of its files. */
const FOLDERS: ReadonlySet<string> = new Set([
  '/etc',
  '/etc/ssl/certs',
  '/opt',
  '/srv',
  ...['bin', 'lib', 'lib64', 'libexec', 'local', 'share'].map((name) => `/usr/${name}`),
  ...['cache', 'lib', 'log', 'opt', 'spool', 'tmp'].map((name) => `/var/${name}`),
  '/bin',
  '/sbin',
  '/lib',
  '/lib64',
  ...[...HOST_FILES].map((path) => `/${dirname(path)}`),
]);

/** Folders that every Flatcar has, as paths on the host. */
export const hostFolders = (): ReadonlySet<string> => FOLDERS;

/** What an image does to the files of its host; data/flatcar-host.json says where those are known from. */
export const hostFiles: Readonly<Record<string, Rule>> = {
  'shadows-host': {
    level: 'error',
    checks: "no file hides one of Flatcar's, except for those under 'replaces'",
    reason: "a file of an image hides the host's of the same path, for all programs of the host",
    fix: "put it below usr/lib/<extension>/, or list the path under 'replaces' in extension.ts when that is what the extension is for",
    fixed: "list the path under 'replaces' instead",
    check: ({ entries, replaces }) =>
      entries
        .filter(({ type, path }) => type !== 'dir' && HOST_FILES.has(path) && !replaces.includes(path))
        .map(({ path }) => ({ what: "hides a file of Flatcar's", path })),
  },
  'replaces-nothing': {
    level: 'warning',
    sees: 'whole',
    checks: "every path under 'replaces' is in the image",
    reason: "'replaces' that names what the image does not hold hides the next mistake",
    fix: "take the path out of 'replaces' in extension.ts",
    fixed: "take the path out of 'replaces' instead",
    check: ({ entries, replaces }) => {
      const there = new Set(entries.map(({ path }) => path));
      return replaces
        .filter((path) => !there.has(path))
        .map((path) => ({ what: `'replaces' names '${path}', which is not in the image`, path }));
    },
  },
};
