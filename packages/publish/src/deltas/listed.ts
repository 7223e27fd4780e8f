// The deltas that an index lists.
import type { ExtensionIndex, PublishedDelta, PublishedImage, PublishedVersion } from '../tree/schema.ts';

/** An image with other deltas; without any, it has no list. */
export const withDeltas = (image: PublishedImage, deltas: readonly PublishedDelta[] | undefined): PublishedImage => ({
  ...image,
  deltas: deltas === undefined || deltas.length === 0 ? undefined : [...deltas],
});

/** Indexes with each image changed. */
export const mapImages = (
  extensions: ReadonlyMap<string, ExtensionIndex>,
  change: (image: PublishedImage, version: PublishedVersion) => PublishedImage,
): Map<string, ExtensionIndex> =>
  new Map(
    [...extensions].map(([name, index]) => [
      name,
      {
        ...index,
        versions: index.versions.map((version) => ({ ...version, images: version.images.map((image) => change(image, version)) })),
      },
    ]),
  );

/** Paths of the deltas that an index lists. */
export const deltaPaths = ({ versions }: ExtensionIndex): Set<string> =>
  new Set(versions.flatMap(({ images }) => images.flatMap(({ deltas = [] }) => deltas.map(({ path }) => path))));

/** Indexes without deltas that nobody needs: those that lead to withdrawn versions, and those from images that are no longer published. */
export function withoutStaleDeltas(extensions: ReadonlyMap<string, ExtensionIndex>): Map<string, ExtensionIndex> {
  const published = new Set(
    [...extensions.values()].flatMap(({ versions }) => versions.flatMap(({ images }) => images.map(({ sha256 }) => sha256))),
  );
  return mapImages(extensions, (image, { withdrawn }) =>
    withDeltas(image, withdrawn === undefined ? image.deltas?.filter(({ from }) => published.has(from)) : undefined),
  );
}
