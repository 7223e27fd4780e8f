import { targetFolder } from './layout.ts';
import type { ExtensionIndex, PublishedImage } from './schema.ts';

/** Folders of an extension, each with the images that its sums list: all but those of withdrawn versions. */
export function foldersOf({ name, versions }: ExtensionIndex): Map<string, PublishedImage[]> {
  const folders = new Map<string, PublishedImage[]>();
  for (const { images, withdrawn } of versions) {
    for (const image of images) {
      const folder = targetFolder(name, image.target);
      const listed = folders.get(folder) ?? [];
      if (withdrawn === undefined) listed.push(image);
      folders.set(folder, listed);
    }
  }
  return folders;
}
