import { ARCHES, compareVersions } from '@flatcar/core/browser';
import type { ExtensionIndex, Index, PublishedFile } from './schema.ts';

/** What the top index lists of an extension whose index is a file. */
export function entryOf({ name, kind, summary, versions }: ExtensionIndex, file: PublishedFile): Index['extensions'][number] {
  const available = versions.filter(({ withdrawn, images }) => withdrawn === undefined && images.length > 0);
  const images = available.flatMap((version) => version.images);
  return {
    name,
    kind,
    summary,
    newest: available[0]?.version ?? '',
    versions: available.map(({ version }) => version),
    targets: [...new Set(images.map(({ target }) => target))].toSorted(compareVersions),
    architectures: ARCHES.filter((arch) => images.some(({ architecture }) => architecture === arch)),
    ...file,
  };
}
