import { readFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { type Arch, archWords } from '../model/arch.ts';
import { readElf, type Elf } from './elf.ts';
import { between } from '../lint/rules/elsewhere.ts';
import type { Finding } from '../model/finding.ts';
import type { Needs, Tree } from '../model/payload.ts';
import type { Target } from '../model/target.ts';
import { parseUnit } from './units.ts';
import { compareVersions } from '../model/versions.ts';

/** Programs and libraries of a tree, by path. */
export async function elvesOf(tree: Tree): Promise<Map<string, Elf>> {
  const elves = new Map<string, Elf>();
  for (const { path, type } of tree.entries) {
    if (type !== 'file') continue;
    const elf = await readElf(join(tree.dir, path));
    if (elf !== undefined) elves.set(path, elf);
  }
  return elves;
}

/** Folders that a program's RUNPATH names, as paths in the image. */
export function runpathFolders(path: string, elf: Elf): string[] {
  return elf.runpath.map((folder) => normalize(folder.replaceAll(/\$\{?ORIGIN\}?/g, `/${dirname(path)}`)).replace(/^\//, ''));
}

/** True when a program starts by the host's own loader, and so runs on the host's C library. */
export function usesHostLibc(elf: Elf, arch: Arch): boolean {
  const { loader } = archWords(arch);
  return elf.interpreter !== undefined && [`/${loader}`, `/usr/${loader}`].includes(elf.interpreter);
}

/** True for what runs on the host's C library: a program that starts by the host's loader, or a module that such a program loads. */
export function runsOnHost(path: string, elf: Elf, arch: Arch, inTree: (path: string) => boolean): boolean {
  if (elf.interpreter !== undefined) return usesHostLibc(elf, arch);
  const isModule = elf.type === 'shared' && elf.needed.includes('libc.so.6');
  return isModule && !runpathFolders(path, elf).some((folder) => inTree(`${folder}/libc.so.6`));
}

// First systemd that knows a unit setting (systemd.unit(5), NEWS). The others used here are older than any Flatcar.
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

/** The libraries that each program and library of a tree expects on the host; of those only that expect any. */
function hostLibraries(elves: ReadonlyMap<string, Elf>, inTree: ReadonlySet<string>): Map<string, string[]> {
  const found = [...elves].map(([path, elf]): [string, string[]] => {
    const folders = runpathFolders(path, elf);
    return [path, elf.needed.filter((soname) => !folders.some((folder) => inTree.has(`${folder}/${soname}`)))];
  });
  return new Map(found.filter(([, libraries]) => libraries.length > 0));
}

/** Measures what a tree asks of a host: once, on its bytes. */
export async function measureNeeds(tree: Tree, arch: Arch): Promise<Needs> {
  const elves = await elvesOf(tree);
  const inTree = new Set(tree.entries.map(({ path }) => path));
  let glibc: string | undefined;
  for (const [path, elf] of elves) {
    const onHost = runsOnHost(path, elf, arch, (one) => inTree.has(one));
    if (onHost && elf.glibc !== undefined && (glibc === undefined || compareVersions(elf.glibc, glibc) > 0)) glibc = elf.glibc;
  }
  const libraries = new Set([...hostLibraries(elves, inTree).values()].flat());
  const kernel = tree.entries.map(({ path }) => kernelOf(path)).find((found) => found !== undefined);
  return { glibc, systemd: await leastSystemd(tree), kernel, libraries: [...libraries].toSorted() };
}

/** The kernel that a module is for, by its path. */
const kernelOf = (path: string): string | undefined => /^usr\/lib\/modules\/([^/]+)\//.exec(path)?.[1];

/** One requirement on a host that is not met. */
const unmet = (rule: keyof typeof between, what: string, about: { path?: string; fix?: string } = {}): Finding => ({
  rule,
  level: between[rule].level,
  what,
  path: about.path,
  fix: about.fix ?? between[rule].fix,
});

/** What of a tree keeps it from being portable, file by file. */
export async function hostUsers(tree: Tree): Promise<Finding[]> {
  const inTree = new Set(tree.entries.map(({ path }) => path));
  const programs = [...hostLibraries(await elvesOf(tree), inTree)].map(([path, libraries]) =>
    unmet('portable-needs-host', `needs the host's ${libraries.join(', ')}; a portable image must not`, { path }),
  );
  const modules = tree.entries
    .filter(({ type, path }) => type === 'file' && kernelOf(path) !== undefined)
    .map(({ path }) => unmet('portable-needs-host', `is for kernel ${kernelOf(path) ?? ''}; a portable image must not need one`, { path }));
  return [...programs, ...modules];
}

/**
 * Components that need a container runtime of some version. kubelet: the fallback for runtimes without the call RuntimeConfig of the CRI, which
 * containerd has since 2.0, goes with 1.38 (KEP-4033; kubeadm's preflight warns of it).
 */
const RUNTIME_NEEDS = [{ component: 'kubelet', since: '1.38', containerd: '2.0' }];

/** A payload, or a published version, as far as hosts are concerned. */
export interface HostSubject {
  readonly needs: Needs;
  readonly components: readonly { readonly name: string; readonly version: string }[];
  /** Extensions that are merged beside it: what one of them is called for is theirs, and not the host's. */
  readonly requires?: readonly string[];
}

/** What a target does not offer of what an image needs; nothing is known of `portable` hosts. */
export function fits({ needs, components, requires = [] }: HostSubject, target: Target): Finding[] {
  if (target === 'portable') {
    const missing = [...needs.libraries, needs.kernel ?? ''].filter(Boolean).join(', ');
    return missing === ''
      ? []
      : [unmet('portable-needs-host', `a portable image must not need the host's libraries or kernel (${missing})`)];
  }
  const { number } = target;
  const check = (what: 'glibc' | 'systemd', needed: string | undefined): Finding[] =>
    needed !== undefined && compareVersions(needed, target[what]) > 0
      ? [unmet(`needs-${what}`, `needs ${what} ${needed}; Flatcar ${number} has ${target[what]}`)]
      : [];
  const runtimes = RUNTIME_NEEDS.flatMap(({ component, since, containerd }) => {
    const user = components.find(({ name, version }) => name === component && compareVersions(version, since) >= 0);
    const isBeside = requires.includes('containerd');
    return user === undefined || isBeside || target.containerd === undefined || compareVersions(target.containerd, containerd) >= 0
      ? []
      : [
          unmet(
            'needs-containerd',
            `${component} ${user.version} needs containerd ${containerd}; Flatcar ${number} has ${target.containerd}`,
          ),
        ];
  });
  const isOtherKernel = needs.kernel !== undefined && needs.kernel.split('-')[0] !== target.kernel;
  return [
    ...check('glibc', needs.glibc),
    ...check('systemd', needs.systemd),
    ...runtimes,
    ...(isOtherKernel ? [unmet('needs-kernel', `has modules for kernel ${needs.kernel}; Flatcar ${number} has ${target.kernel}`)] : []),
  ];
}
