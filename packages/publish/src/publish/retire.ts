import { compareVersions, oldestBranch, type Release } from '@flatcar/core/engine';
import type { PlannedExtension } from './plan.ts';
import type { Published } from '../tree/state.ts';
import type { ExtensionIndex, PublishedImage, PublishedVersion, UpdatePackage } from '../tree/schema.ts';

/** What decides which images expire. */
export interface Retention {
  /** The catalogue of Flatcar releases. */
  readonly releases: readonly Release[];
  /** Extensions with their policies; versions of other extensions never expire. */
  readonly extensions: readonly PlannedExtension[];
}

/** An expired image or update payload, and why it expired. */
export interface ExpiredImage {
  readonly path: string;
  readonly why: string;
}

/**
 * True for a release that newer releases replaced in the catalogue: it is older than all releases of its channel there, or, for LTS, of its
 * major. (Flatcar's second number is the channel: 0 alpha, 1 beta, 2 stable, 3 LTS.) A release that is newer than the catalogue is not old.
 */
export function isOutOfSupport(number: string, releases: readonly Release[]): boolean {
  const [major, channel] = number.split('.');
  const line = releases.filter((one) => one.number.split('.')[1] === channel);
  const own = line.filter((one) => one.number.split('.')[0] === major);
  const peers = own.length > 0 ? own : line;
  return peers.length > 0 && peers.every((one) => compareVersions(number, one.number) < 0);
}

const isServed = ({ withdrawn, images }: PublishedVersion): boolean => withdrawn === undefined && images.length > 0;

/**
 * Versions below all branches that the policy keeps. The newest of them stays, so that `withdraw` has a version to go back to.
 */
function oldVersions({ versions }: ExtensionIndex, { pins, track }: PlannedExtension): PublishedVersion[] {
  const branch = oldestBranch(track, Object.keys(pins));
  const below = versions.filter(({ version }) => branch !== undefined && compareVersions(version, branch) < 0);
  const spare = below.find(isServed);
  return below.filter((one) => one !== spare);
}

/**
 * Expired images: images for releases out of support, and images of old versions if a newer version has an image for the same target and
 * architecture. The newest image for a supported release always stays.
 */
export function expiredImages(index: ExtensionIndex, { releases, extensions }: Retention): ExpiredImage[] {
  const planned = extensions.find(({ name }) => name === index.name);
  const old = new Set(planned === undefined ? [] : oldVersions(index, planned));
  const isFollowed = (of: PublishedVersion, { target, architecture }: PublishedImage): boolean =>
    index.versions.some(
      (one) =>
        isServed(one) &&
        compareVersions(one.version, of.version) > 0 &&
        one.images.some((image) => image.target === target && image.architecture === architecture),
    );
  return index.versions.flatMap((version) =>
    version.images.flatMap((image): ExpiredImage[] => {
      const { path, target } = image;
      if (target !== 'portable' && isOutOfSupport(target, releases)) return [{ path, why: `Flatcar ${target} is out of support` }];
      if (old.has(version) && isFollowed(version, image)) return [{ path, why: `${version.version} is older than all kept branches` }];
      return [];
    }),
  );
}

/** Expired update payloads: the official layout keeps one version for a release as long as the release is supported. */
export function expiredPackages(packages: readonly UpdatePackage[], { releases }: Retention): UpdatePackage[] {
  return packages.filter(({ release }) => isOutOfSupport(release, releases));
}

/** Everything that `retire` would remove from a published tree: update payloads with their images, then other images. */
export async function expiredFiles(published: Published, retention: Retention): Promise<ExpiredImage[]> {
  const packages = expiredPackages(await published.packages(), retention);
  const indexes = await Promise.all((published.index?.extensions ?? []).map(({ name }) => published.extension(name)));
  return [
    ...packages.flatMap(({ path, image, release }) =>
      [path, image.path].map((one) => ({ path: one, why: `Flatcar ${release} is out of support` })),
    ),
    ...indexes.flatMap((index) => (index === undefined ? [] : expiredImages(index, retention))),
  ];
}

/** An index without some of its images. Versions stay with the keys of their payloads, so that their names never get other bytes. */
export function withoutImages(index: ExtensionIndex, paths: ReadonlySet<string>): ExtensionIndex {
  return { ...index, versions: index.versions.map((one) => ({ ...one, images: one.images.filter(({ path }) => !paths.has(path)) })) };
}
