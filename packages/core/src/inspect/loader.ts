import { archWords } from '../model/arch.ts';
import type { Arch } from '../model/arch.ts';

/** What a loader reads of the host: its cache, what is preloaded, and folders (elf/dl-cache.c, elf/rtld.c, elf/dl-load.c of glibc). */
export const LOADER_FILES = ['/etc/ld.so.cache', '/etc/ld.so.preload'];
export const loaderFolders = (triplet: string): string[] => [
  `/usr/lib/${triplet}/`,
  `/lib/${triplet}/`,
  '/lib/',
  '/usr/lib/',
  '/lib64/',
  '/usr/lib64/',
];
/** A path as a loader has it among its constants. */
export const text = (path: string): string => `\0${path}\0`;

/** Files and folders of the host that are compiled into a loader. */
export function hostPathsOf(loader: Buffer, arch: Arch): string[] {
  return [...LOADER_FILES, ...loaderFolders(archWords(arch).triplet)].filter((path) => loader.includes(text(path)));
}
