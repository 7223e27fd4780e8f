import type { ImageEntry } from '../model/image.ts';

/** What a file system image says of itself. */
export interface FileSystemContent {
  readonly entries: readonly ImageEntry[];
  /** Byte offset in the image of a file's data; undefined unless it is one plain, whole block. */
  readonly plainBlock: (path: string) => number | undefined;
}
