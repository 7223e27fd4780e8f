import type { Omission } from '../../inspect/omission.ts';
import type { Elf } from '../../inspect/elf.ts';
import type { Arch } from '../../model/arch.ts';
import type { ImageEntry } from '../../model/image.ts';
import type { Target } from '../../model/target.ts';

/** What the rules look at: a staged tree, or a finished image with its files unpacked. */
export interface LintContext {
  readonly name: string;
  readonly kind: 'sysext' | 'confext';
  readonly arch: Arch;
  /** Of finished images only. */
  readonly target?: Target;
  readonly entries: readonly ImageEntry[];
  /** ELF files by path. */
  readonly elfFiles: ReadonlyMap<string, Elf>;
  /** Dynamic loaders by path, with what they would read of the host. */
  readonly loaders: ReadonlyMap<string, readonly string[]>;
  /** Texts of units, drop-ins, tmpfiles and sysusers by path. */
  readonly texts: ReadonlyMap<string, string>;
  /** First lines of files that begin with `#!`, by path, without the line feed. */
  readonly shebangs: ReadonlyMap<string, string>;
  /** What relocated programs name and their packages have; empty for a finished image, which its packages are not at hand for. */
  readonly omissions: readonly Omission[];
  /** Text of the release file, undefined when there is none. */
  readonly releaseFile: string | undefined;
  /** Of the finished image in bytes. */
  readonly size?: number;
  /** From the definition; empty for an image of unknown origin. */
  readonly requiredPaths: readonly string[];
  readonly replaces: readonly string[];
  /** Absolute paths that the extensions bring which must be merged beside it. */
  readonly beside: ReadonlySet<string>;
  /** Paths of the image whose bytes are not at hand: a build brings them. */
  readonly unread: ReadonlySet<string>;
}

/** Something that a rule found. */
export interface RuleViolation {
  readonly what: string;
  /** In the image. */
  readonly path?: string;
  /** What the finding is about besides the path, such as a path that a program contains: a waiver may name it instead. */
  readonly subject?: string;
}

/** What is to be known of anything that can be reported: `explain` prints it, and `waive` is checked against it. */
export interface RuleText {
  readonly level: 'error' | 'warning';
  /** What is checked, in a line. */
  readonly checks: string;
  /** Why, in a line. */
  readonly reason: string;
  readonly fix: string;
  /** Why `waive` must not name it; undefined where it may. */
  readonly fixed?: string;
}

/** A rule about a staged tree or a finished image. */
export interface Rule extends RuleText {
  /**
   * `whole`: says something true of a whole image only, where nothing is missing. `target`: of an image that is bound. `any` (the default): of
   * every tree, the files of this repository alone included.
   */
  readonly sees?: 'any' | 'whole' | 'target';
  readonly check: (context: LintContext) => readonly RuleViolation[];
}

/** True for a path that is `folder` or below it. */
export const below = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`);
