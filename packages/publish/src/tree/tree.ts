/** Where a published tree is read from. Paths are relative to its root. */
export interface Source {
  /** For messages. */
  readonly where: string;
  /** A small file; undefined where there is none. */
  read(path: string): Promise<Buffer | undefined>;
  /** Why a file that was read is undefined, where the place said so. */
  absence?(path: string): string | undefined;
}

/** Size and digest of a file, known before the file is read. */
export interface FileAbout {
  readonly size: number;
  /** Hex. */
  readonly sha256: string;
}

/** A published tree that is read: small files as they come, large ones only with the digest that they must have. */
export interface Tree extends Source {
  /** Path of a local file with these very bytes; it belongs to the tree or to the store and must not be changed. */
  file(path: string, about: FileAbout): Promise<string>;
}
