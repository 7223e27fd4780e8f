import { dirname } from 'node:path';
import host from '../model/data/flatcar-host.json' with { type: 'json' };

/** Programs that every Flatcar has, as a unit may call them. */
export const HOST_PROGRAMS: ReadonlySet<string> = new Set([
  ...['/bin/', '/usr/bin/'].flatMap((folder) => host.bin.map((name) => folder + name)),
  ...['/bin/', '/usr/bin/', '/sbin/', '/usr/sbin/'].flatMap((folder) => host.sbin.map((name) => folder + name)),
  ...host.paths,
]);

/** Users and groups that every Flatcar has. */
export const HOST_USERS: ReadonlySet<string> = new Set([...host.users, ...host.groups]);

/** Files of the host and of its built-in extensions, as paths in an image. */
export const HOST_FILES: ReadonlySet<string> = new Set([
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
