import { archWords, type Arch } from '../model/arch.ts';

/** Files of the host that a loader reads: its cache, and what to preload (elf/dl-cache.c and elf/rtld.c of glibc). */
export const LOADER_FILES: readonly string[] = ['/etc/ld.so.cache', '/etc/ld.so.preload'];

/** Folders of the host that a loader searches (elf/dl-load.c of glibc), Debian's own first. */
export const loaderFolders = (triplet: string): string[] => [
  `/usr/lib/${triplet}/`,
  `/lib/${triplet}/`,
  '/lib/',
  '/usr/lib/',
  '/lib64/',
  '/usr/lib64/',
];

/** A path as a whole string constant of a loader. */
export const pathConstant = (path: string): string => `\0${path}\0`;

/** Files and folders of the host that are compiled into a loader. */
export function hostPathsOf(loader: Buffer, arch: Arch): string[] {
  return [...LOADER_FILES, ...loaderFolders(archWords(arch).triplet)].filter((path) => loader.includes(pathConstant(path)));
}
