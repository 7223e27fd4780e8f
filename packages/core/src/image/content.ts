import type { ImageEntry } from '../model/image.ts';

/** The metadata of a file system image. */
export interface FileSystemContent {
  readonly entries: readonly ImageEntry[];
  /** Offset in the image of a file's data, in bytes; undefined unless the data is one plain, whole block. */
  readonly plainBlock: (path: string) => number | undefined;
}
