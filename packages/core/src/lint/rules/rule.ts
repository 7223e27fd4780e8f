import type { Omission } from '../../inspect/omission.ts';
import type { Elf } from '../../inspect/elf.ts';
import type { Arch } from '../../model/arch.ts';
import type { ImageEntry } from '../../model/image.ts';
import type { Target } from '../../model/target.ts';

/** The input of rules: a staged tree, or a finished image with its files unpacked. */
export interface LintContext {
  readonly name: string;
  readonly kind: 'sysext' | 'confext';
  readonly arch: Arch;
  /** For finished images only. */
  readonly target?: Target;
  readonly entries: readonly ImageEntry[];
  /** ELF files by path. */
  readonly elfFiles: ReadonlyMap<string, Elf>;
  /** Dynamic loaders by path, with the files and folders of the host that they would read. */
  readonly loaders: ReadonlyMap<string, readonly string[]>;
  /** Texts of units, drop-ins, tmpfiles and sysusers by path. */
  readonly texts: ReadonlyMap<string, string>;
  /** First lines of files that begin with `#!`, by path, without the line feed. */
  readonly shebangs: ReadonlyMap<string, string>;
  /** Files of packages that relocated programs name and the image lacks; empty for a finished image, whose packages are not available. */
  readonly omissions: readonly Omission[];
  /** Text of the release file; undefined without one. */
  readonly releaseFile: string | undefined;
  /** Size of the finished image, in bytes. */
  readonly size?: number;
  /** From the definition; empty for an image without one. */
  readonly requiredPaths: readonly string[];
  readonly replaces: readonly string[];
  /** Absolute paths in the extensions that must be merged beside the image. */
  readonly beside: ReadonlySet<string>;
  /** Paths of the image whose bytes only a build has. */
  readonly unread: ReadonlySet<string>;
}

/** A violation that a rule found. */
export interface RuleViolation {
  readonly what: string;
  /** In the image. */
  readonly path?: string;
  /** Another subject of the finding, such as a path in a program: a waiver may name it instead of the path. */
  readonly subject?: string;
}

/** The texts of a rule: `explain` prints them, and `waive` is checked against them. */
export interface RuleText {
  readonly level: 'error' | 'warning';
  /** What the rule checks, in one line. */
  readonly checks: string;
  /** Why, in one line. */
  readonly reason: string;
  readonly fix: string;
  /** Why `waive` must not name the rule; undefined if it may. */
  readonly fixed?: string;
}

/** A rule about a staged tree or a finished image. */
export interface Rule extends RuleText {
  /**
   * `whole`: applies to whole images only. `target`: applies to bound images only. `any` (the default): applies to every tree, including the files
   * of this repository alone.
   */
  readonly sees?: 'any' | 'whole' | 'target';
  readonly check: (context: LintContext) => readonly RuleViolation[];
}

/** True if a path is `folder` or below it. */
export const below = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`);
