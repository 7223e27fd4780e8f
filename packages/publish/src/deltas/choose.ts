// Which images a node may have when it needs a new one.
import { compareVersions } from '@flatcar/core/engine';
import type { ExtensionIndex, PublishedImage, PublishedVersion } from '../tree/schema.ts';

/** Former releases of a channel from which a new one gets a block list: a node may have skipped some. */
const FORMER_RELEASES = 2;
/** Former versions from which a new one gets a patch. */
const FORMER_VERSIONS = 2;

const newestFirst = (of: (image: PublishedImage) => string) => (a: PublishedImage, b: PublishedImage) => compareVersions(of(b), of(a));
const target = (image: PublishedImage): string => image.target;

/**
 * The channel of a release, by its number (0 alpha, 1 beta, 2 stable, 3 LTS). LTS releases of all majors are one channel here: nodes go from one
 * to the next.
 */
const channelOf = (release: string): string => release.split('.')[1] ?? '';

/**
 * Images of the same payload that a node may have when its system is updated to the release of a new one: those for the former releases of its
 * channel, and for the newest release of each other channel, from which an operator may have moved the node.
 */
export function formerReleases(version: PublishedVersion, image: PublishedImage): readonly PublishedImage[] {
  if (image.target === 'portable') return [];
  const others = version.images
    .filter((one) => one.architecture === image.architecture && one.format === image.format && one.target !== 'portable')
    .filter((one) => one.sha256 !== image.sha256)
    .toSorted(newestFirst(target));
  const own = channelOf(image.target);
  const channels = Map.groupBy(others, (one) => channelOf(one.target));
  const former = (channels.get(own) ?? []).filter((one) => compareVersions(one.target, image.target) < 0);
  const newest = [...channels].flatMap(([channel, images]) => (channel === own ? [] : images.slice(0, 1)));
  return [...former.slice(0, FORMER_RELEASES), ...newest];
}

/** A former version with its image for one target and architecture. */
export interface Former {
  readonly version: string;
  readonly image: PublishedImage;
}

/**
 * Images of former versions that a node may have, newest first. Images of withdrawn versions are among them: nodes that have one need the next
 * version most.
 */
export function formerVersions(index: ExtensionIndex | undefined, version: string, image: PublishedImage): readonly Former[] {
  return (index?.versions ?? [])
    .filter((one) => compareVersions(one.version, version) < 0)
    .flatMap((one) =>
      one.images
        .filter(
          ({ target: to, architecture, format }) => to === image.target && architecture === image.architecture && format === image.format,
        )
        .map((former) => ({ version: one.version, image: former })),
    )
    .toSorted((a, b) => compareVersions(b.version, a.version))
    .slice(0, FORMER_VERSIONS);
}
