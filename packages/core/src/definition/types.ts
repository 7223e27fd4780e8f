import type { VersionSource } from './version-source.ts';
import type { Pins, PinnedVersion } from './pins.ts';

/** Arch words that differ from Go's (amd64, arm64) for one URL. */
export type ArchWords = Readonly<Record<'x86-64' | 'arm64', string>>;

/** A signature by OpenPGP keys in the folder of the lock (by default the extension's own). */
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

/** A keyless signature of sigstore (cosign, GitHub attestations), by the signer's name and its issuer. */
export interface SigstoreSignature {
  /** @example 'sigstore' */
  readonly kind: 'sigstore';
  /**
   * The issuer that vouches for the name of the signer.
   * @example 'https://token.actions.githubusercontent.com'
   */
  readonly issuer: string;
  /**
   * The name of the signer, with `{version}`; for a workflow, the part after `@` may end in `*`.
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
   * Ref of `source` that the run was for, if `identity` does not contain it.
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
   * URL of a bundle, or of bundles one per line; or `github`: GitHub's attestations for the file.
   * @example '{url}.sigstore.json'
   */
  readonly bundle?: string;
  /**
   * URL of the signature, instead of a bundle. The transparency log of sigstore has its time.
   * @example '{url}.sig'
   */
  readonly signature?: string;
  /**
   * URL of the certificate for `signature`.
   * @example '{url}.cert'
   */
  readonly certificate?: string;
  /**
   * File with the trusted root in the folder of the lock, for signers outside the public sigstore.
   * @example 'keys/trusted-root.json'
   */
  readonly trustedRoot?: string;
}

export type Signature = PgpSignature | SigstoreSignature;

/**
 * Checksums and signatures that upstream publishes beside a file. Pinning checks them; a build never does. Their URLs may contain `{url}` (of the
 * file), `{file}` (its name), `{checksum}` (URL of the checksums) and the words of the file's own URL; relative URLs begin at the file.
 */
export interface Published {
  /**
   * A bare hash or a list of sha256 or sha512, in any usual form; `github`: the digest in GitHub's list of assets; `none`.
   * @default none; 'github' with github().asset()
   * @example '{url}.sha256'
   */
  readonly checksum?: string;
  /**
   * One signature, or several that must all be valid.
   * @example { kind: 'pgp', keys: 'keys/runc.asc', fingerprints: ['…'], url: '{url}.asc' }
   */
  readonly signature?: Signature | readonly Signature[];
}

/** Upstream's own file. */
export interface UpstreamOrigin extends Published {
  /** @example 'upstream' */
  readonly kind: 'upstream';
  /**
   * URL of the file, with `{version}`, `{arch}` and `{goarch}` (amd64, arm64) and `{machine}` (x86_64, aarch64).
   * @example 'https://example.org/v{version}/tool-linux-{arch}.tar.gz'
   */
  readonly url: string;
  /**
   * Other words for `{arch}`.
   * @default { 'x86-64': 'amd64', arm64: 'arm64' }
   * @example { 'x86-64': 'x64', arm64: 'arm64' }
   */
  readonly arch?: ArchWords;
}

/** A Go program, compiled from the module proxy by a lock module in the extension's `go/` folder, or from a folder of this repository. */
export interface GoOrigin {
  /** @example 'go' */
  readonly kind: 'go';
  /**
   * Module path.
   * @example 'k8s.io/kubernetes'
   */
  readonly module: string;
  /**
   * Folder of this repository that contains the module, relative to the folder of the lock. Its go.sum pins all other modules; pins.json has no
   * entry for it.
   * @default the module proxy
   * @example '../../packages/agent'
   */
  readonly folder?: string;
  /**
   * Main packages below the module; `*` matches one folder name.
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
   * `-X` stamps: variable to value, with `{version}`, `{major}`, `{minor}` and `{arch}`.
   * @default {}
   * @example { 'main.version': 'v{version}' }
   */
  readonly stamps?: Readonly<Record<string, string>>;
  /**
   * Names of programs that differ from their main package: package folder to program.
   * @default {}
   * @example { 'cmd/buildx': 'docker-buildx' }
   */
  readonly rename?: Readonly<Record<string, string>>;
  /**
   * Go's language version, for a module whose go.mod has none.
   * @example 'go1.26'
   */
  readonly goVersion?: string;
  /**
   * Files of the module to leave out, such as test helpers beside its programs.
   * @default []
   * @example ['cmd/tool/testing.go']
   */
  readonly exclude?: readonly string[];
  /**
   * The module's version, if it differs from the component's.
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
   * Version of the published modules that replace folders in upstream's `replace` directives. Used by pin only.
   * @example 'v0.{minor}.{patch}'
   */
  readonly stagingVersion?: string;
}

/** A Rust program, compiled from a crate of the registry or from a folder of the extension. */
export interface CargoOrigin {
  /** @example 'cargo' */
  readonly kind: 'cargo';
  /**
   * Name of the crate, or `./folder` of the extension.
   * @example 'ripgrep'
   */
  readonly crate: string;
  /**
   * Programs to build.
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
   * Environment of the build, with `{sysroot}` and `{triplet}`.
   * @default {}
   * @example { LIBSECCOMP_LINK_TYPE: 'static' }
   */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * True if building the crate compiles protocol buffers.
   * @default false
   * @example true
   */
  readonly protoc?: boolean;
}

/** A C program from a source package of Debian, compiled by a shell script of the extension. */
export interface SourceOrigin {
  /** @example 'source' */
  readonly kind: 'source';
  /**
   * Path of the upstream tarball below a Debian mirror, with `{version}`.
   * @example 'pool/main/t/tini/tini_{version}.orig.tar.gz'
   */
  readonly path: string;
  /**
   * Script in the folder of the lock. It runs in the unpacked source and puts programs into `$OUT`. Its environment has CC, AR, PKG_CONFIG,
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
   * Globs of files that programs read from compiled-in paths: the files keep their paths.
   * @default []
   * @example ['usr/share/nmap/**']
   */
  readonly data?: readonly string[];
  /**
   * Globs of programs that find files relative to themselves, and of these files: `usr/x` is installed as `usr/lib/<component>/x`.
   * @default []
   * @example ['usr/bin/gdb', 'usr/share/gdb/**']
   */
  readonly siblings?: readonly string[];
  /**
   * Globs of modules that programs of the host load (NSS, PAM): they use the host's libraries and are installed in `usr/lib64`.
   * @default []
   * @example ['usr/lib/{triplet}/security/pam_sss.so']
   */
  readonly hostModules?: readonly string[];
}

/**
 * Programs from Debian's packages, with their C library and all libraries in `usr/lib/<component>/`, so that they run on any host (see
 * relocate.ts). Globs match paths in the packages, without a leading slash: they may contain `{triplet}` and `{machine}`, `dir/**` matches everything
 * below a folder, and a leading `!` excludes files. Files below `usr/lib/{triplet}/` are installed in `usr/lib/<component>/`, where programs look
 * for them.
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
   * A suite of Debian, with its security updates.
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
   * Folder below the extension (or below the folder of the lock), with `{arch}` (amd64, arm64).
   * @example 'files'
   */
  readonly dir: string;
}

export type Origin = UpstreamOrigin | GoOrigin | CargoOrigin | DebianOrigin | SourceOrigin | FilesOrigin;

/** Where to install a file of an origin. */
export interface InstallRule {
  /**
   * File name, or a glob of paths, in the files of the origin. A raw download has the name of its component.
   * @example 'bin/tool'
   */
  readonly from: string;
  /**
   * Path in the image; a folder if it ends in `/`.
   * @example 'usr/bin/'
   */
  readonly to: string;
  /**
   * Permission bits.
   * @default 0o755; 0o644 for a file that a glob matches and that is not executable
   * @example 0o644
   */
  readonly mode?: number;
}

/** A program or set of files of an extension that has a version. */
export interface Component {
  /**
   * Name of the component, unique in the extension.
   * @example 'kubelet'
   */
  readonly name: string;
  /**
   * Version of the component: one of the arguments of `components`.
   * @example v.version
   */
  readonly version: string;
  /**
   * Where its files come from, in the order of preference.
   * @example [upstream('https://…'), go('example.org/tool', '.')]
   */
  readonly origins: readonly Origin[];
  /**
   * Where to install its files.
   * @example [{ from: 'tool', to: 'usr/bin/' }]
   */
  readonly install: readonly InstallRule[];
  /**
   * Why it cannot be built from source, if its only origin is upstream's binary.
   * @example 'its crate is in no registry'
   */
  readonly noSource?: string;
  /**
   * Folder of the lock of a shared component: pins.json by the component's version, and `go/`.
   * @default the extension's own folder
   * @example import.meta.dirname
   */
  readonly lock?: string;
}

/** The versions for which `components` is called: the extension's own, and those of coupled components. */
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
   * What the image is merged over: /usr (`sysext`) or /etc (`confext`).
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
   * A function from versions to components. It must be pure and fast: the same versions give the same components.
   * @example ({ version }) => [binary('yq', version, upstream('https://…'))]
   */
  readonly components: (versions: Versions<Coupled>) => readonly Component[];
  /**
   * Units that start as soon as the image is merged.
   * @default []
   * @example ['node-exporter.service']
   */
  readonly start?: readonly string[];
  /**
   * Paths that the image must contain, besides those that its components install.
   * @default []
   * @example ['usr/share/vim/vim91/defaults.vim']
   */
  readonly requiredPaths?: readonly string[];
  /**
   * True if programs use the libraries of a release: images are bound to releases, and no image is portable.
   * @default false
   * @example true
   */
  readonly releaseBound?: boolean;
  /**
   * Paths of the host that the image hides on purpose.
   * @default []
   * @example ['usr/bin/containerd']
   */
  readonly replaces?: readonly string[];
  /**
   * Extensions that must be merged beside this one, because it has drop-ins for their units or runs their programs.
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
   * True if nodes depend on it: a node does not reboot into a release for which it lacks an image of this extension.
   * @default false
   * @example true
   */
  readonly essential?: boolean;
  /**
   * What nodes follow by default: the newest version, or the newest of the minor version that they have (`minor`), if a step to the next minor
   * version needs work that no image does.
   * @default 'latest'
   * @example 'minor'
   */
  readonly follow?: 'latest' | 'minor';
  /**
   * Why images are for local use only, such as a license that does not permit everybody to distribute them: they can be built and installed, and
   * never published.
   * @default ''
   * @example 'BUSL-1.1 does not permit everybody to offer it to others'
   */
  readonly localOnly?: string;
  /**
   * Lint rules that do not apply, each with the reason; `rule:path` limits it to a path. See `flatcar-ext explain`.
   * @default {}
   * @example { 'exec-path:/opt/bin/tool': 'the operator installs it' }
   */
  readonly waive?: Readonly<Record<string, string>>;
}

/** A checked definition with all defaults. */
export interface Extension extends Required<Omit<ExtensionDefinition, 'coupled'>> {
  readonly coupled: Readonly<Record<string, VersionSource>>;
}

/** A component with the lock that pins it. */
export interface PinnedComponent {
  readonly component: Component;
  /** Folder of its lock: the extension's, or that of a shared component. */
  readonly dir: string;
  readonly pin: PinnedVersion;
}

/** An extension in a folder of the repository. */
export interface LoadedExtension {
  readonly dir: string;
  readonly extension: Extension;
  readonly pins: Pins;
  /** True for a pins file other than the extension's own: a fixture has all pins, those of shared components included. */
  readonly fixture: boolean;
}
