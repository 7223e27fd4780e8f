import type { Elf } from '../elf.ts';
import type { Arch, ImageEntry, Target } from '../types.ts';

/** What the rules look at: a staged tree, or a finished image with its files unpacked. */
export interface LintContext {
  readonly name: string;
  readonly kind: 'sysext' | 'confext';
  readonly arch: Arch;
  /** Of finished images only. */
  readonly target?: Target;
  readonly entries: readonly ImageEntry[];
  /** ELF files by path. */
  readonly elves: ReadonlyMap<string, Elf>;
  /** Dynamic loaders by path, with what they would read of the host. */
  readonly loaders: ReadonlyMap<string, readonly string[]>;
  /** Texts of units, drop-ins, tmpfiles and sysusers by path. */
  readonly texts: ReadonlyMap<string, string>;
  /** Text of the release file, undefined when there is none. */
  readonly releaseFile: string | undefined;
  /** Of the finished image in bytes. */
  readonly size?: number;
  /** From the definition; empty for an image of unknown origin. */
  readonly promises: readonly string[];
  readonly replaces: readonly string[];
}

/** Something that a rule found. */
export interface Hit {
  readonly what: string;
  readonly path?: string;
}

/** One rule: why it is there, how to mend what it finds. */
export interface Rule {
  readonly level: 'error' | 'warning';
  /** Why, in a line. */
  readonly reason: string;
  readonly fix: string;
  readonly check: (context: LintContext) => readonly Hit[];
}

/** True for a path that is `folder` or below it. */
export const below = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`);
