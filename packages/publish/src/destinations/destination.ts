import { UserError, type Report, type Store } from '@flatcar/core/engine';
import type { FileAbout, Source, Tree } from '../tree/tree.ts';

/** Another publisher changed what this one was about to replace: the whole step is done again on the new state. */
export class ConflictError extends UserError {
  constructor(where: string, why?: string) {
    super(why === undefined ? 'another publisher changed this at the same time' : `the file has other bytes, ${why}`, {
      where,
      next: 'run publish again',
      code: 'conflict',
    });
    this.name = 'ConflictError';
  }
}

/** A published name has other bytes already. */
export class TakenError extends UserError {
  constructor(where: string, what: string) {
    super(`${what} is published with other bytes, and a published name never changes its bytes`, {
      where,
      next: 'raise the revision (flatcar-ext pin NAME --revision) and build it again',
      code: 'name-taken',
    });
    this.name = 'TakenError';
  }
}

/** A place that holds a published tree. Paths are relative to its root. */
export interface Destination extends Source {
  /** True if `publish` keeps other publishers out. Otherwise an unlisted file may belong to a publisher at work. */
  readonly locks: boolean;
  /**
   * Runs a publish: `staging` is an empty or left-over folder for files named by their digests. If the place locks, other publishers wait;
   * otherwise `replace` throws a ConflictError when another publisher was faster.
   */
  publish<T>(fn: (staging: string) => Promise<T>): Promise<T>;
  /** Publishes a staged file under a new name. The name may exist with the same bytes; with other bytes, throws a TakenError. */
  put(path: string, file: string, about: FileAbout): Promise<void>;
  /**
   * Publishes a staged file that no index and no sums list yet, over what a killed publish left under its name. If the place does not lock,
   * a recent file may belong to a publisher at work: throws a ConflictError until the file is old.
   */
  putOver(path: string, file: string, about: FileAbout): Promise<void>;
  /** Makes the files of `put` visible if the place collects them. Called before anything refers to them. */
  flush(): Promise<void>;
  /**
   * Replaces the files of a folder that belong together, such as sums and their signature, in this order: in one step if the place can,
   * otherwise one by one and only if each is still as this publish first read it. A folder always has the same files.
   */
  replace(folder: string, files: ReadonlyMap<string, Buffer>): Promise<void>;
  /** True if the place is empty, or holds only a first publish that was killed. Undefined if the place cannot tell. */
  isNew(): Promise<boolean | undefined>;
  /** Makes the tree readable for everybody and refuses files that others cannot read; `extensions` are the folders to check. */
  openToOthers(extensions: readonly string[], report?: Report): Promise<void>;
  /** The same place, to read large files from. */
  tree(store: Store, report?: Report): Tree;
  /** Removes files; missing files are ignored. */
  remove(paths: readonly string[]): Promise<void>;
}
