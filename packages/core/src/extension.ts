import { DefinitionError } from './definition-error.ts';
import { componentProblems, definitionProblems } from './definition-schema.ts';
import type { DefinitionProblem } from './schema-kit.ts';
import type { Pins, PinnedVersion } from './pins.ts';
import type { OriginKind } from './types.ts';

/** Where new versions of something are listed; read when pinning and planning, never by a build. */
export interface VersionSource {
  readonly kind: 'github' | 'gitlab' | 'kubernetes' | 'page' | 'go' | 'crates' | 'debian' | 'json' | 'date';
  /** `owner/repo`, a URL, a module, a crate or a package, by kind. */
  readonly at: string;
  /** Which branches are kept: `3 minors`, `same minor`, `newest`; see versions.ts. */
  readonly keep: string;
  /** What stands before the version in a tag, `v` unless said. */
  readonly tagPrefix?: string;
}

/** Arch words that differ from Go's (amd64, arm64) for one URL. */
export type ArchWords = Readonly<Record<'x86-64' | 'arm64', string>>;

/** A signature by OpenPGP keys that stand in the folder of the lock (the extension's own unless shared). */
export interface PgpSignature {
  readonly kind: 'pgp';
  /** File with the public keys, armored or binary: `keys/runc.asc`. */
  readonly keys: string;
  /** Primary keys in that file that may sign, as whole fingerprints. */
  readonly fingerprints: readonly string[];
  /** What is signed; the file itself unless said. */
  readonly of?: 'file' | 'checksum';
  /** The detached signature: `{url}.asc`. Without it the checksum list is itself a cleartext-signed message. */
  readonly url?: string;
}

/** A keyless signature of sigstore (cosign, GitHub attestations): who signed, and who vouches for the name. */
export interface SigstoreSignature {
  readonly kind: 'sigstore';
  /** Such as `https://token.actions.githubusercontent.com`. */
  readonly issuer: string;
  /** Exact, or its beginning when it ends in `*` (a workflow at any tag). */
  readonly identity: string;
  /** What is signed; the file itself unless said. */
  readonly of?: 'file' | 'checksum';
  /** Bundle (one, or one a line), or `github`: the attestations that GitHub keeps for the file. */
  readonly bundle?: string;
  /** Instead of a bundle: signature and certificate as two files; the log of sigstore is asked for their time. */
  readonly signature?: string;
  readonly certificate?: string;
  /** File in the lock's folder, for signers outside of the public sigstore. */
  readonly trustedRoot?: string;
}

export type Signature = PgpSignature | SigstoreSignature;

/**
 * What upstream publishes beside a file; checked when it is pinned, never by a build. In its URLs `{url}` (of the file), `{file}`
 * (its name) and `{checksum}` (URL of the checksums) are filled in besides the words of a release URL; relative ones count from the file.
 */
export interface Published {
  /** A bare hash or a list of sha256 or sha512, in any usual form; `github`: the digest in GitHub's list of assets; `none`. */
  readonly checksum?: string;
  readonly signature?: Signature | readonly Signature[];
}

/** Upstream's own file: `{version}`, `{arch}` and `{goarch}` (amd64, arm64) and `{machine}` (x86_64, aarch64) are filled in. */
export interface ReleaseOrigin extends Published {
  readonly kind: 'release';
  readonly url: string;
  /** Replaces the words for `{arch}`. */
  readonly arch?: ArchWords;
}

/** A Go program, compiled from the module proxy by a wrapper module that stands under the extension's `go/` folder. */
export interface GoOrigin {
  readonly kind: 'go';
  /** Module path, such as `k8s.io/kubernetes`. */
  readonly module: string;
  /** Main packages below the module, `*` stands for one folder: `cmd/kubelet`, `plugins/main/*`. */
  readonly packages: readonly string[];
  readonly tags?: readonly string[];
  /** `-X` stamps: variable to value; `{version}` and `{arch}` are filled in. */
  readonly stamps?: Readonly<Record<string, string>>;
  /** Names for programs whose main package is called otherwise: package folder to program. */
  readonly rename?: Readonly<Record<string, string>>;
  /** Go's language version for a module that has no go.mod to say it, such as `go1.26`. */
  readonly language?: string;
  /** Files of the module that are left out: helpers of its tests that upstream keeps beside its programs. */
  readonly without?: readonly string[];
  /** The module's version, where it is not the component's. */
  readonly version?: string;
  /** True for programs that are partly C: linked statically by the pinned C compiler, against libraries of its sysroot. */
  readonly cgo?: boolean;
  /** Version of the published modules that stand for folders in upstream's own replaces: `v0.{minor}.{patch}`. Used by pin only. */
  readonly local?: string;
}

/** A Rust program, compiled from a crate of the registry, or of the extension's own folder when it begins with `./`. */
export interface CargoOrigin {
  readonly kind: 'cargo';
  readonly crate: string;
  readonly programs: readonly string[];
  readonly features?: readonly string[];
  readonly defaultFeatures?: boolean;
  /** Environment of the build; `{sysroot}` and `{triplet}` are filled in. */
  readonly env?: Readonly<Record<string, string>>;
  /** True for crates that compile protocol buffers while they are built. */
  readonly protoc?: boolean;
}

/** A C program out of a source package of Debian, compiled by a shell script of the extension. */
export interface SourceOrigin {
  readonly kind: 'source';
  /** Path of the upstream tarball below a Debian mirror; `{version}` is filled in. */
  readonly path: string;
  /** Script in the extension's folder; origins/source.ts says what it is given. */
  readonly script: string;
}

/**
 * Programs out of Debian's packages, with their own C library and all libraries that they need in `usr/lib/<component>/`, so that
 * they run on any host; relocate.ts says how. Paths and globs are those in the packages, without a leading slash; `{triplet}`
 * and `{machine}` are filled in, `dir/**` is all below a folder, a leading `!` takes files out again. What Debian has below `usr/lib/{triplet}/` comes
 * to `usr/lib/<component>/`, and programs look for it there.
 */
export interface DebianOrigin {
  readonly kind: 'debian';
  /** Binary packages that the files below are in; what those depend on need not be said. */
  readonly packages: readonly string[];
  /** Such as `trixie`; its security updates are taken with it. */
  readonly suite: string;
  /** Names (globs) in Debian's `bin` and `sbin`: they come to `usr/bin`. */
  readonly programs: readonly string[];
  /** Other names for programs, such as `vim.basic` to `vim`. */
  readonly rename?: Readonly<Record<string, string>>;
  /** Shared objects that are loaded by name at run time: sonames, or globs of paths. */
  readonly dlopen?: readonly string[];
  /** Globs of what programs look for under paths that are compiled in: it keeps its place. */
  readonly data?: readonly string[];
  /** Globs of what finds its files relative to itself: `usr/x` comes to `usr/lib/<component>/x`. */
  readonly beside?: readonly string[];
  /** Globs of what the host's own programs load (NSS and PAM modules): it runs on the host's libraries, from `usr/lib64`. */
  readonly host?: readonly string[];
}

/** Files that the extension ships itself, in its folder `files/`. */
export interface FilesOrigin {
  readonly kind: 'files';
  /** Folder below the extension; `{arch}` (amd64, arm64) is filled in. */
  readonly dir: string;
}

export type Origin = ReleaseOrigin | GoOrigin | CargoOrigin | DebianOrigin | SourceOrigin | FilesOrigin;

/** Where a file of an origin goes. */
export interface Place {
  /** File name (or a glob over paths) in what the origin gives; a raw download is called as its component. */
  readonly from: string;
  /** Path in the image; a folder when it ends in `/`. */
  readonly to: string;
  /** Permission bits; 0o755 unless said. */
  readonly mode?: number;
}

/** One upstream thing inside an extension. */
export interface Component {
  readonly name: string;
  readonly version: string;
  /** In the order of preference: `release` first. */
  readonly origins: readonly Origin[];
  readonly places: readonly Place[];
  /** Why nothing here builds it from source, for those that have only upstream's binary. */
  readonly noSource?: string;
  /** Folder of the lock that it shares with other extensions: pins.json by its own version, and `go/`. The extension's own unless said. */
  readonly lock?: string;
}

/** The versions that components are made of: the extension's own, and those of what is coupled to it. */
export type Versions<Coupled extends string> = Readonly<Record<Coupled | 'version', string>>;

/** What a maintainer writes; see docs/adding-an-extension.md. */
export interface ExtensionDefinition<Coupled extends string = string> {
  readonly name: string;
  /** One line, no full stop. */
  readonly summary: string;
  /** What it is merged over: /usr (`sysext`, unless said) or /etc (`confext`). */
  readonly kind?: 'sysext' | 'confext';
  readonly versions: VersionSource;
  /** Components with versions of their own. */
  readonly coupled?: Readonly<Record<Coupled, VersionSource>>;
  /** Pure and cheap: the same versions give the same components. */
  readonly components: (versions: Versions<Coupled>) => readonly Component[];
  /** Units that run as soon as the image is merged. */
  readonly start?: readonly string[];
  /** Paths that the image must hold, besides the places of its components. */
  readonly promises?: readonly string[];
  /** True for what runs on a release's own libraries: images are bound to releases, and none is portable. */
  readonly bound?: boolean;
  /** Host paths that are shadowed on purpose. */
  readonly replaces?: readonly string[];
  /** Extensions that must be merged beside this one: it has drop-ins for their units, or runs their programs. */
  readonly requires?: readonly string[];
  /** Extensions that cannot be merged beside this one. */
  readonly conflicts?: readonly string[];
  /** Lint rules that do not apply, each with the reason. */
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

/** What is wrong with the components of a definition that is wrong itself: so that all is reported at once, as far as it can be known. */
function moreProblems({ components, coupled }: Partial<ExtensionDefinition>): DefinitionProblem[] {
  const names = typeof coupled === 'object' && coupled !== null ? Object.keys(coupled) : [];
  const versions = Object.fromEntries([...names, 'version'].map((name) => [name, '1.2.3']));
  try {
    return typeof components === 'function' ? componentProblems(components(versions)) : [];
  } catch {
    return []; // reported once the rest is right
  }
}

/**
 * Checks a definition whole and fills in what can be derived; its components are checked whenever they are asked for. Throws a DefinitionError
 * that has all that is wrong.
 */
export function defineExtension<Coupled extends string = never>(definition: ExtensionDefinition<Coupled>): Extension {
  const problems = definitionProblems(definition);
  if (problems.length > 0) throw new DefinitionError([...problems, ...moreProblems(definition)]);
  const components = (versions: Versions<string>): readonly Component[] => {
    const made = definition.components(versions);
    const wrong = componentProblems(made);
    if (wrong.length > 0) throw new DefinitionError(wrong);
    return made;
  };
  return {
    kind: 'sysext',
    start: [],
    promises: [],
    bound: false,
    replaces: [],
    requires: [],
    conflicts: [],
    waive: {},
    ...definition,
    coupled: definition.coupled ?? {},
    components,
  };
}

/** A component that is one program in usr/bin. */
export function binary(name: string, version: string, ...origins: readonly Origin[]): Component {
  return { name, version, origins, places: [{ from: name, to: 'usr/bin/' }] };
}

/** A component of several programs: `bin('containerd', v, ['containerd', 'ctr'], …origins)`. */
export function programs(name: string, version: string, from: readonly string[], ...origins: readonly Origin[]): Component {
  return { name, version, origins, places: from.map((program) => ({ from: program, to: 'usr/bin/' })) };
}

/** Upstream's own download, and what is published to check it by. */
export function release(url: string, options: { arch?: ArchWords } & Published = {}): ReleaseOrigin {
  return { kind: 'release', url, ...options };
}

/** A Go program out of the module proxy. */
export function go(
  module: string,
  packages: string | readonly string[],
  options: Omit<GoOrigin, 'kind' | 'module' | 'packages'> = {},
): GoOrigin {
  return { kind: 'go', module, packages: typeof packages === 'string' ? [packages] : packages, ...options };
}

/** A Rust program out of the crates registry. */
export function cargo(
  crate: string,
  programs: readonly string[],
  options: Omit<CargoOrigin, 'kind' | 'crate' | 'programs'> = {},
): CargoOrigin {
  return { kind: 'cargo', crate, programs, ...options };
}

/** A C program out of a Debian source package. */
export function source(path: string, script: string): SourceOrigin {
  return { kind: 'source', path, script };
}

/** Programs out of Debian's packages: `debian(['strace', 'gdb'], { programs: ['strace', 'gdb'] })`. */
export function debian(
  packages: readonly string[],
  files: Omit<DebianOrigin, 'kind' | 'packages' | 'suite'> & { suite?: string },
): DebianOrigin {
  return { kind: 'debian', packages, suite: 'trixie', ...files };
}

/** A component that is nothing but files out of Debian's packages, each where the origin puts it. */
export function packaged(name: string, version: string, origin: DebianOrigin): Component {
  return { name, version, origins: [origin], places: [{ from: '**', to: '' }] };
}

/** A GitHub project: a version source that also makes the URLs of its release assets, whose digests GitHub knows unless said otherwise. */
export function github(
  repo: string,
  keep = 'newest',
  options: { tagPrefix?: string } = {},
): VersionSource & { asset(name: string, options?: { arch?: ArchWords } & Published): ReleaseOrigin } {
  const tagPrefix = options.tagPrefix ?? 'v';
  return {
    kind: 'github',
    at: repo,
    keep,
    tagPrefix,
    asset: (name, words = {}) =>
      release(`https://github.com/${repo}/releases/download/${tagPrefix}{version}/${name}`, { checksum: 'github', ...words }),
  };
}

/** The origins that compile. */
export const SOURCE_ORIGINS: ReadonlySet<OriginKind> = new Set(['go', 'cargo', 'debian', 'source']);
