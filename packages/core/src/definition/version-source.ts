/** What all sources of versions have. */
export interface Tracked {
  /**
   * Versions to pin and publish: `newest`, the newest of each of `3 minors` or `2 branches`, or `same minor` as the lead version.
   * @example '3 minors'
   */
  readonly track: string;
  /**
   * Text in front of the version in a tag or file name.
   * @default 'v' (json: '')
   * @example 'release-'
   */
  readonly tagPrefix?: string;
}

/** Tags of a repository. */
export interface RepositoryVersions extends Tracked {
  /** @example 'github' */
  readonly kind: 'github' | 'gitlab';
  /**
   * `owner/repository`; for GitLab also the URL of a project on another host.
   * @example 'prometheus/node_exporter'
   */
  readonly repo: string;
}

/** Versions that a page or a JSON document lists, or those of Kubernetes' release server. */
export interface UrlVersions extends Tracked {
  /** @example 'page' */
  readonly kind: 'kubernetes' | 'page' | 'json';
  /**
   * Address of the document. For `page` a folder with links, `{machine}` is replaced; for `json` the fragment is the key of the versions.
   * @example 'https://example.org/index.json#versions'
   */
  readonly url: string;
}

/** Versions of a Go module, from the module proxy. */
export interface ModuleVersions extends Tracked {
  /** @example 'go' */
  readonly kind: 'go';
  /**
   * Path of the module, with its major version.
   * @example 'github.com/mikefarah/yq/v4'
   */
  readonly module: string;
}

/** Versions of a crate, from the registry. */
export interface CrateVersions extends Tracked {
  /** @example 'crates' */
  readonly kind: 'crates';
  /**
   * Name of the crate.
   * @example 'ripgrep'
   */
  readonly crate: string;
}

/** The version of a source package in a suite of Debian. */
export interface PackageVersions extends Tracked {
  /** @example 'debian' */
  readonly kind: 'debian';
  /**
   * `suite/main/package`.
   * @example 'trixie/main/btop'
   */
  readonly package: string;
}

/** No upstream version: the extension has the date of its lock, such as `2026.11.24`. */
export interface DateVersions extends Tracked {
  /** @example 'date' */
  readonly kind: 'date';
}

/** Where new versions of something are listed; read when pinning and planning, never by a build. */
export type VersionSource = RepositoryVersions | UrlVersions | ModuleVersions | CrateVersions | PackageVersions | DateVersions;

/** Where a source is, for messages: a repository, a URL, a module, a crate or a package; empty for dates. */
export function locationOf(source: VersionSource): string {
  switch (source.kind) {
    case 'github':
    case 'gitlab':
      return source.repo;
    case 'kubernetes':
    case 'page':
    case 'json':
      return source.url;
    case 'go':
      return source.module;
    case 'crates':
      return source.crate;
    case 'debian':
      return source.package;
    case 'date':
      return '';
  }
}
