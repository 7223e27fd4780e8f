import type { ArchWords, Signature } from '@flatcar/core/engine';

/** Everything that the package of a new extension is written from. */
export interface Plan {
  readonly name: string;
  readonly summary: string;
  readonly version: string;
  /** SPDX expression. */
  readonly license: string;
  /** Versions to keep, as in the definition. */
  readonly track: string;
  /** Programs in usr/bin. */
  readonly programs: readonly string[];
  /** The project at GitHub that lists versions, and has the assets. */
  readonly github?: { readonly repo: string; readonly tagPrefix: string } | undefined;
  /** Upstream's own file: a name among GitHub's assets, or a whole URL. */
  readonly file?:
    | {
        readonly pattern: string;
        readonly arch?: ArchWords | undefined;
        readonly checksum: string;
        readonly signatures: readonly Signature[];
      }
    | undefined;
  readonly go?:
    | {
        readonly module: string;
        readonly packages: readonly string[];
        readonly stamps: Readonly<Record<string, string>>;
        readonly tags: readonly string[];
      }
    | undefined;
  readonly cargo?: { readonly crate: string; readonly features: readonly string[] } | undefined;
  readonly debian?:
    | {
        readonly packages: readonly string[];
        readonly suite: string;
        readonly programs: readonly string[];
        /** Name of the component; its folder of libraries has that name. */
        readonly component: string;
        /** Files and plugins that programs load at run time, as in `debian()`. */
        readonly data?: readonly string[] | undefined;
        readonly plugins?: readonly string[] | undefined;
        /** True if the version is a date instead of that of the first package. */
        readonly dated?: boolean | undefined;
        /** Findings of lint to waive, with the reason. */
        readonly waive?: Readonly<Record<string, string>> | undefined;
        /** Versions of programs that differ from the component's, by name of the program. */
        readonly versions?: Readonly<Record<string, string>> | undefined;
      }
    | undefined;
  /** For own files only: their paths in the image. The version is a date. */
  readonly own?: readonly string[] | undefined;
  /** A service that starts with the image. */
  readonly unit?: { readonly name: string; readonly text: string } | undefined;
  /** Files below files/, besides the service. */
  readonly files?: readonly ScaffoldFile[] | undefined;
  /** What a machine test checks. */
  readonly machine?:
    | {
        readonly active: readonly string[];
        readonly runsAs?: Readonly<Record<string, string>> | undefined;
        readonly files?: Readonly<Record<string, string>> | undefined;
      }
    | undefined;
}

/** A file of the new package, or of its image. */
export interface ScaffoldFile {
  readonly path: string;
  readonly text: string;
}

/** A command of an extension's test, and what it must print. */
export interface Probe {
  readonly run: readonly string[];
  /** `version`: the pinned version; else words of the output. */
  readonly says: string;
  /** True if a digit must follow the words: the version of a program in a dated extension. */
  readonly numbered?: boolean;
}
