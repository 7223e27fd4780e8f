import { basename, dirname } from 'node:path';

/** Where bytes are from. Its text (locatorText) is the key of their digest in pins.json and in records. */
export type Locator =
  /** Upstream's own file. */
  | { readonly kind: 'file'; readonly url: string }
  /** A Go module; its digest is that of the go.sum of its lock module. */
  | { readonly kind: 'module'; readonly module: string; readonly version: string }
  /** A crate of the registry. */
  | { readonly kind: 'crate'; readonly crate: string; readonly version: string }
  /** A binary package, or a source tarball, by its path below a Debian mirror. */
  | { readonly kind: 'package' | 'source'; readonly path: string }
  /** A folder of this repository, relative to the extension or to the shared lock. */
  | { readonly kind: 'folder'; readonly folder: string };

/** The text of a locator: a URL, or `go:<module>@v<version>`, `cargo:<crate>@<version>`, `debian:<path>`, `files:<folder>`. */
export function locatorText(locator: Locator): string {
  switch (locator.kind) {
    case 'file':
      return locator.url;
    case 'module':
      return `go:${locator.module}@v${locator.version}`;
    case 'crate':
      return `cargo:${locator.crate}@${locator.version}`;
    case 'package':
    case 'source':
      return `debian:${locator.path}`;
    case 'folder':
      return `files:${locator.folder}`;
  }
}

/** Reads the text of a locator. */
export function parseLocator(text: string): Locator {
  const [, scheme, rest = ''] = /^(go|cargo|debian|files):(.*)$/s.exec(text) ?? [];
  const at = rest.lastIndexOf('@');
  if (scheme === 'go' && at > 0) return { kind: 'module', module: rest.slice(0, at), version: rest.slice(at + 1).replace(/^v/, '') };
  if (scheme === 'cargo' && at > 0) return { kind: 'crate', crate: rest.slice(0, at), version: rest.slice(at + 1) };
  if (scheme === 'debian') return { kind: /^pool\/.+\.deb$/.test(rest) ? 'package' : 'source', path: rest };
  if (scheme === 'files') return { kind: 'folder', folder: rest };
  return { kind: 'file', url: text };
}

/** True for the locator of a binary package; the source tarballs of the same archive have `debian:` too. */
export const isPackageLocator = (text: string): boolean => parseLocator(text).kind === 'package';

/** A binary package, as its path in the archive names it. */
export interface PackageName {
  readonly name: string;
  /** Debian's version, with the epoch if the file name contains it. */
  readonly version: string;
  /** dpkg's word, such as `amd64` or `all`. */
  readonly arch: string;
  /** The source package. */
  readonly source: string;
}

/** Reads pool/main/<letter>/<source>/<package>_<version>_<arch>.deb (wiki.debian.org/DebianRepository/Format). */
export function packageNameOf(path: string): PackageName {
  const [name = '', version = '', arch = ''] = basename(path, '.deb').split('_');
  return { name, version: decodeURIComponent(version), arch, source: basename(dirname(path)) };
}
