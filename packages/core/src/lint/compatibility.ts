import { readElfFiles, hostLibraries, kernelOf } from '../inspect/host-requirements.ts';
import type { Finding } from '../model/finding.ts';
import type { HostRequirements, Tree } from '../model/payload.ts';
import type { Target } from '../model/target.ts';
import { compareVersions } from '../model/versions.ts';
import { between } from './rules/elsewhere.ts';

/** A finding about a requirement that a host does not meet. */
const unmet = (rule: keyof typeof between, what: string, about: { path?: string; fix?: string } = {}): Finding => ({
  rule,
  level: between[rule].level,
  what,
  path: about.path,
  fix: about.fix ?? between[rule].fix,
});

/** The files of a tree that keep it from being portable. */
export async function hostUsers(tree: Tree): Promise<Finding[]> {
  const inTree = new Set(tree.entries.map(({ path }) => path));
  const programs = [...hostLibraries(await readElfFiles(tree), inTree)].map(([path, libraries]) =>
    unmet('portable-needs-host', `needs the host's ${libraries.join(', ')}; a portable image must not`, { path }),
  );
  const modules = tree.entries
    .filter(({ type, path }) => type === 'file' && kernelOf(path) !== undefined)
    .map(({ path }) => unmet('portable-needs-host', `is for kernel ${kernelOf(path) ?? ''}; a portable image must not need one`, { path }));
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

/** The requirements of an image that a target does not meet. Nothing is known about the hosts of a portable image. */
export function checkCompatibility({ needs, components, requires = [] }: HostSubject, target: Target): Finding[] {
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
