import type { Arch } from './arch.ts';
import type { ImageVersion, UpstreamVersion } from './brands.ts';
import type { Format } from './target.ts';

/** `fast` for local work and pull requests, `publish` for published images. */
export type Profile = 'fast' | 'publish';

/** Where a component's files come from. */
export type OriginKind = 'upstream' | 'go' | 'cargo' | 'debian' | 'source' | 'files';

/** The requested origin: `auto` prefers `upstream`; `source` means any origin that compiles. */
export type OriginChoice = 'auto' | 'upstream' | 'source';

/** Bytes from outside: an entry of pins.json, resolved for a component. */
export interface Material {
  /** A URL, or `go:<module>@<version>`, `debian:<path below the mirror>`, or `files:`. */
  readonly locator: string;
  /** Lowercase hex. */
  readonly sha256: string;
  /** In bytes, where known. */
  readonly size?: number;
  /** How upstream's file was checked when it was pinned. */
  readonly proof: string;
}

/** A component as it went into a payload. */
export interface BuiltComponent {
  readonly name: string;
  readonly version: string;
  /** SPDX expression. */
  readonly license: string;
  readonly origin: OriginKind;
  readonly materials: readonly Material[];
  /** Anything else that decided the bytes: toolchain, flags; goes to the build record. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** One entry of a staged tree. */
export interface TreeEntry {
  /** Relative to the root, without a leading slash: `usr/bin/kubelet`. */
  readonly path: string;
  readonly type: 'file' | 'dir' | 'link';
  /** Permission bits, such as 0o755. Owner and group are root in every image. */
  readonly mode: number;
  /** In bytes; 0 for everything but files. */
  readonly size: number;
  /** Of files only, lowercase hex. */
  readonly sha256?: string;
  /** Target of a link, as written. */
  readonly link?: string;
  /** Name of the component that it belongs to. */
  readonly component: string;
}

/** A staged tree: a folder on disk and the sorted list of its entries. */
export interface Tree {
  readonly dir: string;
  /** sha256 over the canonical list of entries. */
  readonly digest: string;
  readonly entries: readonly TreeEntry[];
}

/** The requirements of a tree on a host, measured once on its bytes. */
export interface HostRequirements {
  /** Highest GLIBC_x.y among programs that run on the host's libraries; absent when there are none. */
  readonly glibc?: string;
  /** Least systemd version, by the keys and features that the tree uses. */
  readonly systemd: string;
  /** Least kernel, or for kernel modules the exact one; absent when any will do. */
  readonly kernel?: string;
  /** Libraries (sonames) that programs expect on the host. */
  readonly libraries: readonly string[];
}

/** A tool (or toolchain) that had a part in an image, for the build record and the cache keys. */
export interface ToolRecord {
  readonly name: string;
  readonly version: string;
  /** Of the package or module that it came from. */
  readonly sha256: string;
  /** `pinned`, or `unpinned: why` for a replacement, which is never publishable. */
  readonly status: string;
}

/** A library found compiled into a binary (Go's build info), or a package of Debian that files come from. */
export interface EmbeddedModule {
  /** `golang`, `cargo`, `deb`: the type of the package URL. */
  readonly type: string;
  readonly name: string;
  readonly version: string;
  /** Qualifiers of the package URL: for Debian's packages `arch` and `distro` (purl-spec, deb). */
  readonly qualifiers?: Readonly<Record<string, string>>;
  /** Paths of the binaries that hold it. */
  readonly paths: readonly string[];
  /** Of Debian's packages: the source package that it was built from; security trackers list these. */
  readonly source?: SourcePackage;
  /** Of Debian's packages: the source packages of what was compiled into its programs. */
  readonly builtUsing?: readonly SourcePackage[];
  /** Of packages: the licence in their copyright file, as an SPDX expression or as its text. */
  readonly license?: { readonly expression: string } | { readonly text: string };
}

/** A source package of Debian, by its own version (that of its binary packages may differ). */
export interface SourcePackage {
  readonly name: string;
  readonly version: string;
}

/** Reasons that keep a payload from being published. A tree that declares its origins accepts `fallback`; nothing accepts the others. */
export const PUBLISH_BLOCKERS = ['local-only', 'fallback', 'fixture', 'incomplete', 'unsandboxed', 'unpinned-tool'] as const;

/** Why a payload must not be published. */
export interface PublishBlocker {
  readonly code: (typeof PUBLISH_BLOCKERS)[number];
  /** What happened, such as `made with the pins of a fixture`. */
  readonly what: string;
}

/** A payload: a file tree packed once per architecture and format, independent of any release. */
export interface Payload {
  /** Digest of all that decides its bytes; see describe.ts. */
  readonly key: string;
  readonly extension: string;
  readonly summary: string;
  readonly kind: 'sysext' | 'confext';
  /** Image version: upstream's version, `-<revision>` when the revision is not 0. */
  readonly version: ImageVersion;
  /** The lead component's version, a key of pins.json. */
  readonly upstream: UpstreamVersion;
  readonly revision: number;
  readonly arch: Arch;
  readonly format: Format;
  readonly profile: Profile;
  /** File beside this record: for squashfs the portable image itself, for ddi the packed erofs. */
  readonly file: string;
  readonly sha256: string;
  readonly size: number;
  /** Byte offset in `file` of the 4096-byte block of the release file. */
  readonly releaseFileOffset: number;
  readonly reload: boolean;
  readonly tree: { readonly digest: string; readonly entries: readonly TreeEntry[] };
  readonly needs: HostRequirements;
  readonly components: readonly BuiltComponent[];
  readonly tools: readonly ToolRecord[];
  /** Why no publisher may take it; empty means that it can be published. */
  readonly publishBlockers: readonly PublishBlocker[];
  /** Go modules and the like that were found inside the binaries, for the SBOM. */
  readonly modules: readonly EmbeddedModule[];
  readonly waived: Readonly<Record<string, string>>;
  /** Host paths that it shadows on purpose, and extensions that it cannot be merged with. */
  readonly replaces: readonly string[];
  readonly conflicts: readonly string[];
  /** Extensions that must be merged beside it. */
  readonly requires: readonly string[];
  /** Whether nodes depend on it, and what they follow by default. */
  readonly essential: boolean;
  readonly follow: 'latest' | 'minor';
  /** Digest of what decides its bytes, as its lock has it (packaging.ts); undefined for the pins of a fixture, which have none. */
  readonly packaging?: string;
  /**
   * How many builders made these bytes independently of each other. Only the job that compared them writes it; undefined where nothing was
   * compiled, or nothing compared.
   */
  readonly builders?: 1 | 2;
}
