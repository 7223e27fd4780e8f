import { compareVersions, mapParallel, targetName, type Arch, type ExtensionRef, type Target } from '@flatcar/core/engine';
import { selectedNames, selectVersions, type ExtensionIndex, type PublishedVersion } from '@flatcar/publish';
import type { OpenedTree } from '../open-published.ts';

/** Whether an extension has an image for a release on an architecture. */
export interface Readiness {
  readonly extension: string;
  readonly target: string;
  readonly architecture: Arch;
  /**
   * `ready`: nodes keep their version or get a newer one. `older`: only a version that is older than the newest for other targets, so that nodes go
   * back. `missing`: no image.
   */
  readonly state: 'ready' | 'older' | 'missing';
  /** The version that nodes get on this release; undefined if there is none. */
  readonly version: string | undefined;
  /** The newest version for any target on this architecture. */
  readonly newest: string | undefined;
}

/** What has to be ready. */
export interface ReadyRequest {
  /** Extensions, or branches of them (`kubernetes@1.36`); all of the tree by default. */
  readonly wanted: readonly ExtensionRef[];
  readonly targets: readonly Target[];
  readonly arches: readonly Arch[];
}

const hasImage = ({ images }: PublishedVersion, arch: Arch, target?: string): boolean =>
  images.some((image) => image.architecture === arch && (target === undefined || image.target === target));

/** An extension that is published as portable only needs no image of its own for a release. */
const isPortableOnly = (versions: readonly PublishedVersion[], arch: Arch): boolean =>
  versions.every(({ images }) => images.every(({ architecture, target }) => architecture !== arch || target === 'portable'));

function readinessOf({ name, versions }: ExtensionIndex, wanted: string | undefined, target: Target, arch: Arch): Readiness {
  const offered = selectVersions(
    versions.filter(({ withdrawn }) => withdrawn === undefined),
    wanted,
  ).filter((version) => hasImage(version, arch));
  const at = targetName(target);
  const served = isPortableOnly(offered, arch) ? 'portable' : at;
  const newest = offered[0]?.version;
  const version = offered.find((one) => hasImage(one, arch, served))?.version;
  const state = version === undefined || newest === undefined ? 'missing' : compareVersions(version, newest) < 0 ? 'older' : 'ready';
  return { extension: name, target: at, architecture: arch, state, version, newest };
}

/** For each extension, release and architecture, whether nodes find an image after their update to that release. */
export async function readyFor(opened: OpenedTree, { wanted, targets, arches }: ReadyRequest): Promise<Readiness[]> {
  const { tree, index } = opened;
  const names = wanted.length === 0 ? undefined : wanted.map(({ name }) => name);
  const refs: readonly ExtensionRef[] = names === undefined ? index.extensions.map(({ name }) => ({ name })) : wanted;
  selectedNames({ extensions: names }, index, tree.where); // throws for a name that is not published
  const checked = await mapParallel(refs, async ({ name, version }) => {
    const read = await opened.extension(name);
    if (read === undefined) return [];
    return targets.flatMap((target) => arches.map((arch) => readinessOf(read, version, target, arch)));
  });
  return checked.flat();
}
