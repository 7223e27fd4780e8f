/**
 * The values that flow through the pipeline. All are plain and readonly, and survive `JSON.stringify`.
 * Vocabulary: component, origin, pin, payload, target, bind, image (README.md, docs).
 */

/** An architecture, in systemd's words (`ARCHITECTURE=` of os-release(5), `%a` of sysupdate.d(5)). */
export type Arch = 'x86-64' | 'arm64';

/** How a payload is packed: a bare squashfs, or a disk image (GPT: erofs, dm-verity, optional signature). */
export type Format = 'squashfs' | 'ddi';

/** `fast` for local work and pull requests, `release` for what is published. */
export type Profile = 'fast' | 'release';

/** Where a component's files come from. */
export type OriginKind = 'release' | 'go' | 'cargo' | 'debian' | 'source' | 'files';

/** What a person asks for: `auto` prefers `release`; `source` means any origin that compiles. */
export type OriginChoice = 'auto' | 'release' | 'source';

/** A Flatcar release and what a node running it can do. */
export interface Release {
  /** Such as `4593.2.5`. */
  readonly number: string;
  readonly channel: 'alpha' | 'beta' | 'stable' | 'lts';
  /** ISO date, `2026-08-13`. */
  readonly date: string;
  readonly arches: readonly Arch[];
  /** Full version, such as `6.12.102`. */
  readonly kernel: string;
  /** As exact as known: `257.9` or `257`. */
  readonly systemd: string;
  /** Such as `2.41`; with `atLeast`, the last one known for an older major. */
  readonly glibc: string;
  /** Of the built-in extension containerd, such as `2.1.5`; undefined where it is not known. */
  readonly containerd?: string;
  /** True where glibc, systemd minor and file systems are those of the newest known older major. */
  readonly atLeast: boolean;
  /** `final`: merged by systemd-sysext.service; `initrd`: merged before switch-root (majors >= 4628). */
  readonly era: 'final' | 'initrd';
  /** Image file systems the kernel can mount, such as `squashfs`, `erofs`. */
  readonly filesystems: readonly string[];
  /** The one format that images bound to this release have. */
  readonly format: Format;
}

/** What an image is bound to: any distribution, or one Flatcar release. */
export type Target = 'portable' | Release;

/** One set of bytes from outside, as an entry of pins.json says it, resolved for a component. */
export interface Material {
  /** A URL, or `go:<module>@<version>`, `debian:<path below the mirror>`, or `files:`. */
  readonly locator: string;
  /** Lowercase hex. */
  readonly sha256: string;
  /** In bytes, where known. */
  readonly size?: number;
  /** What upstream offered to check it by, as found at pin time. */
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
  /** In bytes; 0 for what is not a file. */
  readonly size: number;
  /** Of files only, lowercase hex. */
  readonly sha256?: string;
  /** Target of a link, as written. */
  readonly link?: string;
  /** Name of the component that it belongs to. */
  readonly component: string;
}

/** What a tree asks of a host, measured once on its bytes. */
export interface Needs {
  /** Highest GLIBC_x.y among programs that run on the host's libraries; absent when there are none. */
  readonly glibc?: string;
  /** Least systemd version, by the keys and features that the tree uses. */
  readonly systemd: string;
  /** Least kernel, or for kernel modules the exact one; absent when any will do. */
  readonly kernel?: string;
  /** Libraries (sonames) that programs expect on the host. */
  readonly libraries: readonly string[];
}

/** A staged tree: a folder on disk and the sorted list of what is in it. */
export interface Tree {
  readonly dir: string;
  /** sha256 over the canonical list of entries. */
  readonly digest: string;
  readonly entries: readonly TreeEntry[];
}

/** The text that stands in an image's release file, before padding; see release-file.ts. */
export interface ReleaseFileFields {
  readonly name: string;
  readonly kind: 'sysext' | 'confext';
  readonly version: string;
  readonly arch: Arch;
  readonly target: Target;
  readonly reload: boolean;
}

/** One entry of a finished image, as its file system has it. */
export interface ImageEntry {
  readonly path: string;
  readonly type: 'file' | 'dir' | 'link' | 'char' | 'block' | 'fifo' | 'socket';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** In bytes; 0 for what is not a file. */
  readonly size: number;
  readonly link?: string;
  readonly xattrs: Readonly<Record<string, string>>;
}

/** A finding of lint. */
export interface Finding {
  readonly rule: string;
  readonly level: 'error' | 'warning';
  /** What is wrong, with the path in the image where there is one. */
  readonly what: string;
  readonly path?: string;
  /** What it is about besides the path, such as a path that a program contains; waivers may name it. */
  readonly subject?: string;
  /** What to do about it. */
  readonly fix: string;
}

/** A tool (or toolchain) that had a part in an image, for the build record and the cache keys. */
export interface ToolRecord {
  readonly name: string;
  readonly version: string;
  /** Of the package or module that it came from. */
  readonly sha256: string;
  /** `pinned`, or `unpinned: why` for a stand-in, which is never publishable. */
  readonly status: string;
}

/** A payload: a file tree packed once per architecture and format, independent of any release. */
export interface Payload {
  /** Digest of all that decides its bytes; see describe.ts. */
  readonly key: string;
  readonly extension: string;
  readonly summary: string;
  readonly kind: 'sysext' | 'confext';
  /** Image version: upstream's version, `-<revision>` when the revision is not 0. */
  readonly version: string;
  /** The lead component's version, a key of pins.json. */
  readonly upstream: string;
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
  readonly needs: Needs;
  readonly components: readonly BuiltComponent[];
  readonly tools: readonly ToolRecord[];
  /** False after any fallback: an origin that the definition does not prefer, or a tool that is not the pinned one. */
  readonly publishable: boolean;
  /** Why no publisher may take it, whatever origins are declared: pins of a fixture, missing components, a tool that is not the pinned one. */
  readonly withheld: readonly string[];
  /** Go modules and the like that were found inside the binaries, for the SBOM. */
  readonly modules: readonly EmbeddedModule[];
  readonly waived: Readonly<Record<string, string>>;
  /** Host paths that it shadows on purpose, and extensions that it cannot be merged with. */
  readonly replaces: readonly string[];
  readonly conflicts: readonly string[];
  /** Extensions that must be merged beside it. */
  readonly requires: readonly string[];
  /** Digest of what decides its bytes, as its lock has it (packaging.ts); undefined for the pins of a fixture, which have none. */
  readonly packaging?: string;
  /**
   * How many builders made these bytes independently of each other. Only the job that compared them writes it; undefined where nothing was
   * compiled, or nothing compared.
   */
  readonly builders?: 1 | 2;
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
  /** Of packages: what their copyright file says, as an SPDX expression or as its own text. */
  readonly license?: { readonly expression: string } | { readonly text: string };
}

/** A source package of Debian, by its own version (that of its binary packages may differ). */
export interface SourcePackage {
  readonly name: string;
  readonly version: string;
}

/** A finished image. */
export interface Image {
  readonly extension: string;
  readonly kind: 'sysext' | 'confext';
  readonly version: string;
  readonly arch: Arch;
  readonly format: Format;
  /** `portable` or the release number. */
  readonly target: string;
  /** Absolute path of the .raw. */
  readonly file: string;
  readonly sha256: string;
  readonly sha512: string;
  readonly size: number;
  /** Key of its payload. */
  readonly payload: string;
  /** Of DDIs only, lowercase hex. */
  readonly roothash?: string;
  /** True when the DDI carries a roothash signature. */
  readonly signed?: boolean;
}

/** What the pipeline tells whoever watches; the cli draws it, core prints nothing. */
export type Event =
  | { readonly type: 'step'; readonly text: string }
  | { readonly type: 'notice'; readonly text: string }
  | { readonly type: 'progress'; readonly what: string; readonly done: number; readonly total?: number }
  | { readonly type: 'log'; readonly what: string; readonly line: string };

/** Receives events as they happen. */
export type Report = (event: Event) => void;
