/** A place to read a published tree from. Paths are relative to its root. */
export interface Source {
  /** Name for messages. */
  readonly where: string;
  /** Reads a small file of at most `limit` bytes; undefined if it does not exist. */
  read(path: string, limit?: number): Promise<Buffer | undefined>;
  /** Why `read` returned undefined, if the place reported it. */
  absence?(path: string): string | undefined;
}

/** Size and digest of a file, known before the file is read. */
export interface FileAbout {
  readonly size: number;
  /** Hex. */
  readonly sha256: string;
}

/** A published tree to read: large files only with the digest that they must have. */
export interface Tree extends Source {
  /** Path of a local file with exactly these bytes. It belongs to the tree or to the store and must not be changed. */
  file(path: string, about: FileAbout): Promise<string>;
}
