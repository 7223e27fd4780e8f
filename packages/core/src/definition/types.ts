import type { VersionSource } from './version-source.ts';
import type { Pins, PinnedVersion } from './pins.ts';

/** Arch words that differ from Go's (amd64, arm64) for one URL. */
export type ArchWords = Readonly<Record<'x86-64' | 'arm64', string>>;

/** A signature by OpenPGP keys that stand in the folder of the lock (the extension's own unless shared). */
export interface PgpSignature {
  /** @example 'pgp' */
  readonly kind: 'pgp';
  /**
   * File with the public keys, armored or binary, in the folder of the lock.
   * @example 'keys/runc.asc'
   */
  readonly keys: string;
  /**
   * Primary keys in that file that may sign, as whole fingerprints in capitals.
   * @example ['C9C370B246B09F6DBCFC744C34401015D1D2D386']
   */
  readonly fingerprints: readonly string[];
  /**
   * What is signed.
   * @default 'file'
   * @example 'checksum'
   */
  readonly of?: 'file' | 'checksum';
  /**
   * The detached signature. Without it the checksum list is itself a cleartext-signed message.
   * @example '{url}.asc'
   */
  readonly url?: string;
}

/** A keyless signature of sigstore (cosign, GitHub attestations): who signed, and who vouches for the name. */
export interface SigstoreSignature {
  /** @example 'sigstore' */
  readonly kind: 'sigstore';
  /**
   * Who vouches for the name of the signer.
   * @example 'https://token.actions.githubusercontent.com'
   */
  readonly issuer: string;
  /**
   * The signer, with `{version}` filled in; a workflow may end in `*` behind its `@`.
   * @example 'https://github.com/containerd/containerd/.github/workflows/release.yml@refs/tags/v{version}'
   */
  readonly identity: string;
  /**
   * URL of the repository whose run signed. A reusable workflow signs for every repository that calls it.
   * @default the repository that contains the workflow in `identity`
   * @example 'https://github.com/docker/buildx'
   */
  readonly source?: string;
  /**
   * Ref of `source` that the run was for, where `identity` does not contain it.
   * @example 'refs/tags/v{version}'
   */
  readonly ref?: string;
  /**
   * What is signed.
   * @default 'file'
   * @example 'checksum'
   */
  readonly of?: 'file' | 'checksum';
  /**
   * A bundle (one, or one a line), or `github`: the attestations that GitHub keeps for the file.
   * @example '{url}.sigstore.json'
   */
  readonly bundle?: string;
  /**
   * Instead of a bundle: the signature; the transparency log of sigstore is asked for its time.
   * @example '{url}.sig'
   */
  readonly signature?: string;
  /**
   * The certificate that belongs to `signature`.
   * @example '{url}.cert'
   */
  readonly certificate?: string;
  /**
   * File in the folder of the lock, for signers outside of the public sigstore.
   * @example 'keys/trusted-root.json'
   */
  readonly trustedRoot?: string;
}

export type Signature = PgpSignature | SigstoreSignature;

/**
 * What upstream publishes beside a file; checked when it is pinned, never by a build. In its URLs `{url}` (of the file), `{file}`
 * (its name) and `{checksum}` (URL of the checksums) are filled in besides the words of a release URL; relative ones count from the file.
 */
export interface Published {
  /**
   * A bare hash or a list of sha256 or sha512, in any usual form; `github`: the digest in GitHub's list of assets; `none`.
   * @default none; 'github' with github().asset()
   * @example '{url}.sha256'
   */
  readonly checksum?: string;
  /**
   * One signature, or several that must all be good.
   * @example { kind: 'pgp', keys: 'keys/runc.asc', fingerprints: ['…'], url: '{url}.asc' }
   */
  readonly signature?: Signature | readonly Signature[];
}

/** Upstream's own file: `{version}`, `{arch}` and `{goarch}` (amd64, arm64) and `{machine}` (x86_64, aarch64) are filled in. */
export interface UpstreamOrigin extends Published {
  /** @example 'upstream' */
  readonly kind: 'upstream';
  /**
   * URL of the file; `{version}`, `{arch}` and `{goarch}` (amd64, arm64) and `{machine}` (x86_64, aarch64) are filled in.
   * @example 'https://example.org/v{version}/tool-linux-{arch}.tar.gz'
   */
  readonly url: string;
  /**
   * Replaces the words for `{arch}`.
   * @default { 'x86-64': 'amd64', arm64: 'arm64' }
   * @example { 'x86-64': 'x64', arm64: 'arm64' }
   */
  readonly arch?: ArchWords;
}

/** A Go program, compiled from the module proxy by a lock module that stands under the extension's `go/` folder. */
export interface GoOrigin {
  /** @example 'go' */
  readonly kind: 'go';
  /**
   * Module path.
   * @example 'k8s.io/kubernetes'
   */
  readonly module: string;
  /**
   * Main packages below the module; `*` stands for one folder.
   * @example ['cmd/kubelet', 'plugins/main/*']
   */
  readonly packages: readonly string[];
  /**
   * Build tags.
   * @default []
   * @example ['seccomp']
   */
  readonly tags?: readonly string[];
  /**
   * `-X` stamps: variable to value; `{version}`, `{major}`, `{minor}` and `{arch}` are filled in.
   * @default {}
   * @example { 'main.version': 'v{version}' }
   */
  readonly stamps?: Readonly<Record<string, string>>;
  /**
   * Names for programs whose main package is called otherwise: package folder to program.
   * @default {}
   * @example { 'cmd/buildx': 'docker-buildx' }
   */
  readonly rename?: Readonly<Record<string, string>>;
  /**
   * Go's language version for a module that has no go.mod to say it.
   * @example 'go1.26'
   */
  readonly goVersion?: string;
  /**
   * Files of the module that are left out: helpers of its tests that upstream keeps beside its programs.
   * @default []
   * @example ['cmd/tool/testing.go']
   */
  readonly exclude?: readonly string[];
  /**
   * The module's version, where it is not the component's.
   * @default the component's version
   * @example '29.8.1+incompatible'
   */
  readonly version?: string;
  /**
   * True for programs that are partly C: linked statically by the pinned C compiler, against libraries of its sysroot.
   * @default false
   * @example true
   */
  readonly cgo?: boolean;
  /**
   * Version of the published modules that stand for folders in upstream's own replaces. Used by pin only.
   * @example 'v0.{minor}.{patch}'
   */
  readonly stagingVersion?: string;
}

/** A Rust program, compiled from a crate of the registry, or of the extension's own folder when it begins with `./`. */
export interface CargoOrigin {
  /** @example 'cargo' */
  readonly kind: 'cargo';
  /**
   * Name of the crate, or `./folder` of the extension.
   * @example 'ripgrep'
   */
  readonly crate: string;
  /**
   * Programs that are built and kept.
   * @example ['rg']
   */
  readonly programs: readonly string[];
  /**
   * Features of the crate.
   * @default []
   * @example ['pcre2']
   */
  readonly features?: readonly string[];
  /**
   * False to leave out the crate's default features.
   * @default true
   * @example false
   */
  readonly defaultFeatures?: boolean;
  /**
   * Environment of the build; `{sysroot}` and `{triplet}` are filled in.
   * @default {}
   * @example { LIBSECCOMP_LINK_TYPE: 'static' }
   */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * True for crates that compile protocol buffers while they are built.
   * @default false
   * @example true
   */
  readonly protoc?: boolean;
}

/** A C program out of a source package of Debian, compiled by a shell script of the extension. */
export interface SourceOrigin {
  /** @example 'source' */
  readonly kind: 'source';
  /**
   * Path of the upstream tarball below a Debian mirror; `{version}` is filled in.
   * @example 'pool/main/t/tini/tini_{version}.orig.tar.gz'
   */
  readonly path: string;
  /**
   * Script in the folder of the lock. It runs in the unpacked source and puts programs into `$OUT`; it is given CC, AR, PKG_CONFIG,
   * HOST, VERSION and JOBS.
   * @example 'build.sh'
   */
  readonly script: string;
}

/** Files of packages that relocated programs need, by how they are found at run time. */
export interface Relocation {
  /**
   * Shared objects that are loaded by name at run time: sonames, or globs of paths.
   * @default []
   * @example ['usr/lib/{triplet}/krb5/plugins/**']
   */
  readonly plugins?: readonly string[];
  /**
   * Globs of what programs look for under paths that are compiled in: it keeps its place.
   * @default []
   * @example ['usr/share/nmap/**']
   */
  readonly data?: readonly string[];
  /**
   * Globs of what finds its files relative to itself: `usr/x` is installed as `usr/lib/<component>/x`.
   * @default []
   * @example ['usr/bin/gdb', 'usr/share/gdb/**']
   */
  readonly siblings?: readonly string[];
  /**
   * Globs of what the host's own programs load (NSS and PAM modules): it runs on the host's libraries, from `usr/lib64`.
   * @default []
   * @example ['usr/lib/{triplet}/security/pam_sss.so']
   */
  readonly hostModules?: readonly string[];
}

/**
 * Programs out of Debian's packages, with their own C library and all libraries that they need in `usr/lib/<component>/`, so that
 * they run on any host; relocate.ts says how. Paths and globs are those in the packages, without a leading slash; `{triplet}`
 * and `{machine}` are filled in, `dir/**` is all below a folder, a leading `!` takes files out again. What Debian has below `usr/lib/{triplet}/` comes
 * to `usr/lib/<component>/`, and programs look for it there.
 */
export interface DebianOrigin {
  /** @example 'debian' */
  readonly kind: 'debian';
  /**
   * Binary packages that contain the files below; their dependencies need not be listed.
   * @example ['git', 'openssh-client']
   */
  readonly packages: readonly string[];
  /**
   * A suite of Debian; its security updates are taken with it.
   * @default 'trixie', by debian()
   * @example 'trixie'
   */
  readonly suite: string;
  /**
   * Names (globs) in Debian's `bin` and `sbin`, and paths of programs elsewhere: all are installed in `usr/bin`.
   * @example ['strace', 'gdb*', 'usr/lib/postgresql/17/bin/psql']
   */
  readonly programs: readonly string[];
  /**
   * Other names for programs.
   * @default {}
   * @example { 'vim.basic': 'vim' }
   */
  readonly rename?: Readonly<Record<string, string>>;
  /**
   * What the programs need at run time besides the libraries that they are linked to.
   * @default {}
   * @example { data: ['usr/share/nmap/**'], plugins: ['usr/lib/{triplet}/krb5/plugins/**'] }
   */
  readonly relocate?: Relocation;
}

/** Files that the extension ships itself, in its folder `files/`. */
export interface FilesOrigin {
  /** @example 'files' */
  readonly kind: 'files';
  /**
   * Folder below the extension (or the folder of the lock); `{arch}` (amd64, arm64) is filled in.
   * @example 'files'
   */
  readonly dir: string;
}

export type Origin = UpstreamOrigin | GoOrigin | CargoOrigin | DebianOrigin | SourceOrigin | FilesOrigin;

/** Where a file of an origin goes. */
export interface InstallRule {
  /**
   * File name (or a glob over paths) in what the origin gives; a raw download has the name of its component.
   * @example 'bin/tool'
   */
  readonly from: string;
  /**
   * Path in the image; a folder when it ends in `/`.
   * @example 'usr/bin/'
   */
  readonly to: string;
  /**
   * Permission bits.
   * @default 0o755; 0o644 for a file that a glob finds and that is not executable
   * @example 0o644
   */
  readonly mode?: number;
}

/** One upstream thing inside an extension. */
export interface Component {
  /**
   * Name of the component, unique in the extension.
   * @example 'kubelet'
   */
  readonly name: string;
  /**
   * Version of the component: one of those that the function is given.
   * @example v.version
   */
  readonly version: string;
  /**
   * Where its files come from, in the order of preference.
   * @example [upstream('https://…'), go('example.org/tool', '.')]
   */
  readonly origins: readonly Origin[];
  /**
   * Where its files go.
   * @example [{ from: 'tool', to: 'usr/bin/' }]
   */
  readonly install: readonly InstallRule[];
  /**
   * Why nothing here builds it from source, for those that have only upstream's binary.
   * @example 'its crate is in no registry'
   */
  readonly noSource?: string;
  /**
   * Folder of the lock that it shares with other extensions: pins.json by its own version, and `go/`.
   * @default the extension's own folder
   * @example import.meta.dirname
   */
  readonly lock?: string;
}

/** The versions that components are made of: the extension's own, and those of what is coupled to it. */
export type Versions<Coupled extends string> = Readonly<Record<Coupled | 'version', string>>;

/** What a maintainer writes in extension.ts. */
export interface ExtensionDefinition<Coupled extends string = string> {
  /**
   * Name of the extension and of its folder: lowercase letters, digits and single dashes.
   * @example 'node-exporter'
   */
  readonly name: string;
  /**
   * One line, no full stop.
   * @example 'Prometheus exporter of machine metrics'
   */
  readonly summary: string;
  /**
   * What it is merged over: /usr (`sysext`) or /etc (`confext`).
   * @default 'sysext'
   * @example 'confext'
   */
  readonly kind?: 'sysext' | 'confext';
  /**
   * Where versions are listed.
   * @example { kind: 'github', repo: 'mikefarah/yq', track: 'newest' }
   */
  readonly versions: VersionSource;
  /**
   * Components with versions of their own, by name; pins.json has them under `coupled`.
   * @default {}
   * @example { runc: github('opencontainers/runc') }
   */
  readonly coupled?: Readonly<Record<Coupled, VersionSource>>;
  /**
   * A function that is given the versions and returns the components. Pure and cheap: the same versions give the same components.
   * @example ({ version }) => [binary('yq', version, upstream('https://…'))]
   */
  readonly components: (versions: Versions<Coupled>) => readonly Component[];
  /**
   * Units that run as soon as the image is merged.
   * @default []
   * @example ['node-exporter.service']
   */
  readonly start?: readonly string[];
  /**
   * Paths that the image must contain, besides the places of its components.
   * @default []
   * @example ['usr/share/vim/vim91/defaults.vim']
   */
  readonly requiredPaths?: readonly string[];
  /**
   * True for what runs on a release's own libraries: images are bound to releases, and none is portable.
   * @default false
   * @example true
   */
  readonly releaseBound?: boolean;
  /**
   * Host paths that are shadowed on purpose.
   * @default []
   * @example ['usr/bin/containerd']
   */
  readonly replaces?: readonly string[];
  /**
   * Extensions that must be merged beside this one: it has drop-ins for their units, or runs their programs.
   * @default []
   * @example ['node-exporter']
   */
  readonly requires?: readonly string[];
  /**
   * Extensions that cannot be merged beside this one; both list each other.
   * @default []
   * @example ['docker']
   */
  readonly conflicts?: readonly string[];
  /**
   * Lint rules that do not apply, each with the reason; `rule:path` limits it to a path. See `flatcar-ext explain`.
   * @default {}
   * @example { 'exec-path:/opt/bin/tool': 'the operator installs it' }
   */
  readonly waive?: Readonly<Record<string, string>>;
}

/** A definition, checked. */
export interface Extension extends Required<Omit<ExtensionDefinition, 'coupled'>> {
  readonly coupled: Readonly<Record<string, VersionSource>>;
}

/** A component with the lock that pins it. */
export interface PinnedComponent {
  readonly component: Component;
  /** Folder of its lock: the extension's, or one that it shares with other extensions. */
  readonly dir: string;
  readonly pin: PinnedVersion;
}

/** An extension as it stands in a folder of the repository. */
export interface LoadedExtension {
  readonly dir: string;
  readonly extension: Extension;
  readonly pins: Pins;
  /** True where another pins file stands in, for the locks of shared components too: fixtures bring all their pins themselves. */
  readonly fixture: boolean;
}
