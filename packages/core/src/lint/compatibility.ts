import { readElfFiles, hostLibraries, kernelOf } from '../inspect/host-requirements.ts';
import type { Finding } from '../model/finding.ts';
import type { HostRequirements, Tree } from '../model/payload.ts';
import type { Release, Target } from '../model/target.ts';
import { compareVersions } from '../model/versions.ts';
import { between } from './rules/elsewhere.ts';

/** A finding about a requirement that a host does not meet. */
const unmet = (rule: keyof typeof between, what: string, path?: string): Finding => ({
  rule,
  level: between[rule].level,
  what,
  path,
  fix: between[rule].fix,
});

/** The files of a tree that keep it from being portable. */
export async function hostUsers(tree: Tree): Promise<Finding[]> {
  const inTree = new Set(tree.entries.map(({ path }) => path));
  const programs = [...hostLibraries(await readElfFiles(tree), inTree)].map(([path, libraries]) =>
    unmet('portable-needs-host', `needs the host's ${libraries.join(', ')}; a portable image must not`, path),
  );
  const modules = tree.entries
    .filter(({ type, path }) => type === 'file' && kernelOf(path) !== undefined)
    .map(({ path }) => unmet('portable-needs-host', `is for kernel ${kernelOf(path) ?? ''}; a portable image must not need one`, path));
  return [...programs, ...modules];
}

/**
 * Components that need a minimum version of a container runtime. kubelet 1.38 drops the fallback for runtimes without the CRI call RuntimeConfig,
 * which containerd has since 2.0 (KEP-4033; kubeadm's preflight warns about it).
 */
const RUNTIME_NEEDS = [{ component: 'kubelet', since: '1.38', containerd: '2.0' }];

/** The fields of a payload or a published version that decide which hosts it runs on. */
export interface HostSubject {
  readonly needs: HostRequirements;
  readonly components: readonly { readonly name: string; readonly version: string }[];
  /** Extensions that are merged beside it: a runtime of this name comes from them and not from the host. */
  readonly requires?: readonly string[];
}

/** What keeps an image from being portable. Its hosts may have any libraries and any kernel. */
function portableFindings({ libraries, kernel }: HostRequirements): Finding[] {
  const missing = kernel === undefined ? libraries : [...libraries, kernel];
  if (missing.length === 0) return [];
  return [unmet('portable-needs-host', `a portable image must not need the host's libraries or kernel (${missing.join(', ')})`)];
}

/** Versions of the C library and of systemd that a release lacks. */
function versionFindings(needs: HostRequirements, release: Release): Finding[] {
  return (['glibc', 'systemd'] as const).flatMap((what) => {
    const needed = needs[what];
    if (needed === undefined || compareVersions(needed, release[what]) <= 0) return [];
    return [unmet(`needs-${what}`, `needs ${what} ${needed}; Flatcar ${release.number} has ${release[what]}`)];
  });
}

/** Components that need a newer container runtime than the release's. Nothing is reported if the release's version is unknown. */
function runtimeFindings({ components, requires = [] }: HostSubject, { number, containerd: found }: Release): Finding[] {
  if (found === undefined || requires.includes('containerd')) return [];
  return RUNTIME_NEEDS.flatMap(({ component, since, containerd }) => {
    const user = components.find(({ name, version }) => name === component && compareVersions(version, since) >= 0);
    if (user === undefined || compareVersions(found, containerd) >= 0) return [];
    return [unmet('needs-containerd', `${component} ${user.version} needs containerd ${containerd}; Flatcar ${number} has ${found}`)];
  });
}

/** Kernel modules for another kernel than the release's. The part of a module's kernel after a dash is that of the build. */
function kernelFindings({ kernel }: HostRequirements, release: Release): Finding[] {
  if (kernel === undefined || kernel.split('-')[0] === release.kernel) return [];
  return [unmet('needs-kernel', `has modules for kernel ${kernel}; Flatcar ${release.number} has ${release.kernel}`)];
}

/** The requirements of an image that a target does not meet. */
export function checkCompatibility(subject: HostSubject, target: Target): Finding[] {
  const { needs } = subject;
  if (target === 'portable') return portableFindings(needs);
  return [...versionFindings(needs, target), ...runtimeFindings(subject, target), ...kernelFindings(needs, target)];
}
