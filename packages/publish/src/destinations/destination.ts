import { UserError, type Report, type Store } from '@flatcar/core/engine';
import type { FileAbout, Source, Tree } from '../tree/tree.ts';

/** Whoever changed what we were about to replace; the whole step is done again on what is there now. */
export class ConflictError extends UserError {
  constructor(where: string, why?: string) {
    super(why === undefined ? 'another publisher changed this at the same time' : `it has other bytes, ${why}`, {
      where,
      next: 'run publish again',
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
    });
    this.name = 'TakenError';
  }
}

/** A place that holds a published tree. Paths are relative to its root. */
export interface Destination extends Source {
  /** True where `publish` keeps others out; elsewhere what is there and not listed may be that of one who is at work. */
  readonly locks: boolean;
  /**
   * Runs a publish: `staging` is an empty or left-over folder to put files into by their digest. Where the place can lock, others wait;
   * where it cannot, `replace` tells by a ConflictError.
   */
  publish<T>(fn: (staging: string) => Promise<T>): Promise<T>;
  /** Makes a staged file appear under a name for good. The same bytes again are fine; other bytes are a TakenError. */
  put(path: string, file: string, about: FileAbout): Promise<void>;
  /**
   * The same for a file that neither an index nor sums list: what a publish that died left under the name is replaced. Where nobody is kept
   * out, what is there may be of a publish at work: it is replaced only when it is old, and a ConflictError until then.
   */
  putOver(path: string, file: string, about: FileAbout): Promise<void>;
  /** Where files of `put` do not appear one by one: makes them appear. Called before anything points to them. */
  flush?(): Promise<void>;
  /**
   * Replaces files of one folder that belong together (sums and their signature, in this order): in one step where the place can,
   * elsewhere one after the other, and only if they are still as this publish read them. The files of a folder are always the same ones.
   */
  replace(folder: string, files: ReadonlyMap<string, Buffer>): Promise<void>;
  /** True where nothing was ever published and nothing else is: a first publish into it needs no word. */
  readonly isNew?: () => Promise<boolean>;
  /** Makes the tree readable for everybody and refuses what others cannot read; `extensions` are the names of the folders to look into. */
  readonly openToOthers?: (extensions: readonly string[], report?: Report) => Promise<void>;
  /** The same place to read large files from. */
  tree(store: Store, report?: Report): Tree;
  /** Takes files away; those that are not there are none to worry about. */
  remove(paths: readonly string[]): Promise<void>;
}
