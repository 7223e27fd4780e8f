import type { ArchWords } from '@flatcar/core/engine';
import type { ScaffoldFile } from './plan.ts';

/** A service that starts with the image. */
export interface ServiceRequest {
  /** A command, or the name of a service that Debian's packages contain. */
  readonly exec: string;
  /** The service only starts if this file exists. */
  readonly condition?: string | undefined;
}

/** What every new extension may specify; the rest is found out or prompted for. */
interface CommonRequest {
  readonly name: string;
  readonly version?: string | undefined;
  readonly license?: string | undefined;
  readonly summary?: string | undefined;
  /** Programs in usr/bin. */
  readonly programs?: readonly string[] | undefined;
  /** Versions to keep, as in the definition. */
  readonly track: string;
  readonly unit?: ServiceRequest | undefined;
}

/** A Go module to compile. By default, packages and stamps are those that upstream's own build uses. */
export interface GoRequest {
  readonly kind: 'go';
  readonly module: string;
  readonly packages?: readonly string[] | undefined;
  readonly stamps?: Readonly<Record<string, string>> | undefined;
  readonly tags?: readonly string[] | undefined;
}

/** A crate to compile. */
export interface CargoRequest {
  readonly kind: 'cargo';
  readonly crate: string;
  readonly features?: readonly string[] | undefined;
}

/** Files that upstream publishes, source to compile, or both. */
export interface UpstreamRequest extends CommonRequest {
  readonly origin: 'upstream';
  readonly github?: string | undefined;
  /** A saved answer of GitHub's API. */
  readonly listing?: { readonly text: string; readonly where: string } | undefined;
  /** The name of an asset at GitHub, or a URL. By default, the assets of the newest release are proposed. */
  readonly file?: { readonly asset: string } | { readonly url: string } | undefined;
  readonly checksum?: string | undefined;
  readonly arch?: ArchWords | undefined;
  readonly tagPrefix?: string | undefined;
  readonly source?: GoRequest | CargoRequest | undefined;
  /** True if the digests of the file are given: it is not downloaded to inspect it. */
  readonly isKnown: boolean;
}

/** Packages of Debian. */
export interface PackagesRequest extends CommonRequest {
  readonly origin: 'packages';
  readonly packages: readonly string[];
  readonly suite: string;
}

/** Files of this repository only; none for an extension that is filled in later. */
export interface OwnFilesRequest extends CommonRequest {
  readonly origin: 'files';
  readonly files: readonly ScaffoldFile[];
}

/** A new extension, by the origin of its files. */
export type NewRequest = UpstreamRequest | PackagesRequest | OwnFilesRequest;
