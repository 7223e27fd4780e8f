import { readFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { type Arch, archWords } from '../model/arch.ts';
import { readElf, type Elf } from './elf.ts';
import type { HostRequirements, Tree } from '../model/payload.ts';
import { parseUnit } from './units.ts';
import { compareVersions } from '../model/versions.ts';

/** Programs and libraries of a tree, by path. */
export async function readElfFiles(tree: Tree): Promise<Map<string, Elf>> {
  const elfFiles = new Map<string, Elf>();
  for (const { path, type } of tree.entries) {
    if (type !== 'file') continue;
    const elf = await readElf(join(tree.dir, path));
    if (elf !== undefined) elfFiles.set(path, elf);
  }
  return elfFiles;
}

/** Folders in a program's RUNPATH, as paths in the image. */
export function runpathFolders(path: string, elf: Elf): string[] {
  return elf.runpath.map((folder) => normalize(folder.replaceAll(/\$\{?ORIGIN\}?/g, `/${dirname(path)}`)).replace(/^\//, ''));
}

/** True if a program starts through the host's loader, and so runs on the host's C library. */
export function usesHostLibc(elf: Elf, arch: Arch): boolean {
  const { loader } = archWords(arch);
  return elf.interpreter !== undefined && [`/${loader}`, `/usr/${loader}`].includes(elf.interpreter);
}

/** True for a file that runs on the host's C library: a program that starts through the host's loader, or a module that such a program loads. */
export function runsOnHost(path: string, elf: Elf, arch: Arch, inTree: (path: string) => boolean): boolean {
  if (elf.interpreter !== undefined) return usesHostLibc(elf, arch);
  const isModule = elf.type === 'shared' && elf.needed.includes('libc.so.6');
  return isModule && !runpathFolders(path, elf).some((folder) => inTree(`${folder}/libc.so.6`));
}

// First systemd version with a unit setting (systemd.unit(5), NEWS). All other settings are older than any supported Flatcar.
const SETTING_SINCE: Readonly<Record<string, string>> = { Upholds: '249', RestartSteps: '254', ImagePolicy: '254', MemoryZSwapMax: '253' };
/** systemd-sysext with `ID=_any` and links of other names (flatcar/coreos-overlay PR 2373, NEWS 252). */
const LEAST_SYSTEMD = '252';

async function leastSystemd(tree: Tree): Promise<string> {
  let least = LEAST_SYSTEMD;
  for (const { path, type } of tree.entries) {
    if (type !== 'file' || !/^(?:usr\/lib|etc)\/systemd\/(?:system|user)\/.*\.(?:service|socket|timer|path|mount|target|conf)$/.test(path))
      continue;
    for (const { key } of parseUnit(await readFile(join(tree.dir, path), 'utf8'))) {
      const since = SETTING_SINCE[key];
      if (since !== undefined && compareVersions(since, least) > 0) least = since;
    }
  }
  return least;
}

/** The libraries that each program and library of a tree expects on the host; without those that expect none. */
export function hostLibraries(elfFiles: ReadonlyMap<string, Elf>, inTree: ReadonlySet<string>): Map<string, string[]> {
  const found = [...elfFiles].map(([path, elf]): [string, string[]] => {
    const folders = runpathFolders(path, elf);
    return [path, elf.needed.filter((soname) => !folders.some((folder) => inTree.has(`${folder}/${soname}`)))];
  });
  return new Map(found.filter(([, libraries]) => libraries.length > 0));
}

/** Measures what a tree asks of a host: once, on its bytes. */
export async function measureNeeds(tree: Tree, arch: Arch): Promise<HostRequirements> {
  const elfFiles = await readElfFiles(tree);
  const inTree = new Set(tree.entries.map(({ path }) => path));
  let glibc: string | undefined;
  for (const [path, elf] of elfFiles) {
    const onHost = runsOnHost(path, elf, arch, (one) => inTree.has(one));
    if (onHost && elf.glibc !== undefined && (glibc === undefined || compareVersions(elf.glibc, glibc) > 0)) glibc = elf.glibc;
  }
  const libraries = new Set([...hostLibraries(elfFiles, inTree).values()].flat());
  const kernel = tree.entries.map(({ path }) => kernelOf(path)).find((found) => found !== undefined);
  return { glibc, systemd: await leastSystemd(tree), kernel, libraries: [...libraries].toSorted() };
}

/** The kernel of a module, by its path. */
export const kernelOf = (path: string): string | undefined => /^usr\/lib\/modules\/([^/]+)\//.exec(path)?.[1];
