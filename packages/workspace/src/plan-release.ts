import { ARCHES, catalogue, openStore, type Arch, type LoadedExtension, type Target } from '@flatcar/core/engine';
import { openTree, plan, readPublished, supportedTargets, type PlannedExtension, type ReleasePlan, type Trust } from '@flatcar/publish';
import { packagingProblems, type PackagingProblem } from './packaging-check.ts';
import { loadAll } from './select.ts';

/** The tree that a plan starts from. */
export interface PlanTree {
  readonly where: string;
  readonly trust: Trust;
  /** Whether a tree that does not exist yet counts as an empty one. */
  readonly firstPublish?: boolean;
}

/** A plan, and the versions that were changed since they were pinned. */
export interface CheckoutPlan extends ReleasePlan {
  readonly changed: readonly PackagingProblem[];
}

/** What publish needs to know of extensions to plan or to retire their versions. */
export function plannedExtensions(loaded: readonly LoadedExtension[]): PlannedExtension[] {
  return loaded.map(({ extension: { name, versions, waive, requires, releaseBound }, pins }) => ({
    name,
    pins,
    track: versions.track,
    waive,
    requires,
    releaseBound,
  }));
}

/** Computes what is not published yet of extensions (all by default, and never one for local use only), for targets (all supported ones by default) and architectures (both). */
export async function planRelease(
  names: readonly string[],
  {
    tree,
    targets = supportedTargets(catalogue()),
    arches = ARCHES,
  }: { tree?: PlanTree; targets?: readonly Target[]; arches?: readonly Arch[] },
): Promise<CheckoutPlan> {
  const published =
    tree === undefined
      ? { index: undefined, extension: async () => undefined, packages: async () => [] }
      : await readPublished(openTree(tree.where, openStore(), { flag: '--tree' }), tree.trust, {
          firstPublish: tree.firstPublish === true,
        });
  const loaded = (await loadAll(names)).filter(({ extension }) => extension.localOnly === '');
  const changed = (await Promise.all(loaded.map((one) => packagingProblems(one)))).flat();
  return { ...(await plan(plannedExtensions(loaded), targets, published, arches)), changed };
}

/** A line for each version that cannot be published until it is pinned under a higher revision, with what to do. */
export function unpublishableLines({ changed, stale }: Pick<CheckoutPlan, 'changed' | 'stale'>): string[] {
  const known = new Set(changed.map(({ extension }) => extension));
  const others = stale.filter(({ extension }) => !known.has(extension));
  return [
    ...changed.map(({ extension, what, next }) => `${extension}: ${what}; ${next}`),
    ...others.map(
      ({ extension, version }) =>
        `${extension}: ${version} is published with other bytes than those that are pinned; flatcar-ext pin ${extension} --revision`,
    ),
  ].map((line) => `cannot be published: ${line}`);
}
