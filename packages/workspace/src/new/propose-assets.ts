import { ARCHES, parseJson, PLAIN_VERSION, UserError, type Arch, type ArchWords } from '@flatcar/core/engine';
import * as v from 'valibot';

/** A file of a release, as GitHub lists it. */
const Asset = v.object({ name: v.string(), digest: v.nullish(v.string()) });
/** A release as GitHub's API returns it (REST API, Releases): `GET …/releases/latest` or `…/releases`. */
const Release = v.object({
  tag_name: v.string(),
  draft: v.optional(v.boolean(), false),
  prerelease: v.optional(v.boolean(), false),
  assets: v.array(Asset),
});

/** The files of one release. */
export type Listing = v.InferOutput<typeof Release>;

/** A pattern for an upstream's files, and what upstream publishes to check them. */
export interface AssetProposal {
  /** File name with `{version}` and `{arch}` or `{machine}`. */
  readonly asset: string;
  /** The words for `{arch}` if they are not amd64 and arm64. */
  readonly arch?: ArchWords | undefined;
  /** The names in the listing that match the pattern. */
  readonly files: Readonly<Record<Arch, string>>;
  /** As `checksum` of a definition: `{url}.sha256`, the name of a list, `github` or `none`. */
  readonly checksum: string;
  /** Files that look like signatures over the file (or its checksums), by name pattern relative to what is signed. */
  readonly signatures: readonly SignatureFile[];
}

/** A file that looks like a signature. */
export interface SignatureFile {
  readonly kind: 'pgp' | 'sigstore' | 'unknown';
  readonly of: 'file' | 'checksum';
  /** `{url}.asc`, `{checksum}.sigstore.json`. */
  readonly url: string;
}

/** Reads a release, or the newest published one of a list, from an answer of GitHub's API. */
export function readListing(text: string, where: string): Listing {
  const listed = parseJson(v.union([Release, v.array(Release)]), text, {
    what: 'listing of a release',
    where,
    next: 'save the answer of GitHub’s API: gh api repos/OWNER/REPO/releases/latest',
  });
  const found = Array.isArray(listed) ? listed.find(({ draft, prerelease }) => !draft && !prerelease) : listed;
  if (found === undefined) throw new UserError('the listing has no release that is neither a draft nor a pre-release', { where });
  return found;
}

/** `kustomize/v5.8.0` is version 5.8.0 behind the prefix `kustomize/v`; `v1.33.1+k3s1` is version 1.33.1+k3s1. */
export function splitTag(tag: string): { prefix: string; version: string } {
  const [, prefix = '', version = ''] = /^(.*?)(\d+(?:\.\d+)*(?:\+[0-9a-z]+)?)$/.exec(tag) ?? [];
  if (!PLAIN_VERSION.test(version) || /\d\.\d|(?:^|[^a-z])(?:alpha|beta|rc|pre|preview|nightly|dev)[.-]?$/i.test(prefix))
    throw new UserError(`the tag '${tag}' does not end in a plain version`, {
      next: 'pre-releases are not shipped; pass --version and --tag-prefix',
    });
  return { prefix, version };
}

const OTHER_SYSTEMS =
  /darwin|macos|mac-?os|osx|apple|windows|win(?:32|64)|\.exe\b|freebsd|openbsd|netbsd|dragonfly|android|illumos|solaris|plan9|wasi|wasm32/i;
const NO_PROGRAM =
  /\.(?:sha\d+(?:sums?)?|md5|asc|sig|gpg|minisig|pem|cert|crt|pub|key|sbom|spdx|cdx|json|jsonl|txt|ya?ml|toml|md|deb|rpm|apk|msi|dmg|pkg|appimage|snap|flatpak|whl|intoto|bundle|sigstore|att|prov|zsync|vsix|tf|sh|ps1|rb|nix|patch|diff|html|pdf)$|\.pkg\.tar\.\w+$|(?:^|[._-])(?:checksums?|sha\d*sums?|source|src|vendor(?:ed)?|docs?|manpages?|completions?|manifests?|charts?|bom)(?:[._-]|$)/i;
/** A word for an architecture in a file's name. */
const TOKEN = /(?<![a-z0-9])(?:x86[-_]64|amd64|x64|64bit|aarch64|arm64(?:v8)?|armv8)(?![a-z0-9])/gi;
/** A Rust target, for names in which the two architectures differ in the C library as well. */
const TRIPLE = /(?<![a-z0-9])(?:x86_64|aarch64)(?:-unknown)?-linux-(?:gnu|musl)/gi;
const isX86 = (token: string): boolean => /^(?:x86|amd64|x64|64bit)/i.test(token);

interface Candidate {
  /** File name with NUL for the architecture. */
  readonly shape: string;
  readonly tokens: Partial<Record<Arch, string>>;
}

/** Names that only differ in one word for the architecture. */
function pairs(names: readonly string[], pattern: RegExp): Candidate[] {
  const found = new Map<string, Partial<Record<Arch, string>>>();
  for (const name of names) {
    const tokens = [...new Set(name.match(pattern) ?? [])];
    const [token] = tokens;
    if (token === undefined || tokens.length > 1) continue;
    const shape = name.replaceAll(token, '\0');
    // If there is a file for `x86_64` and one for `amd64`, the first one wins.
    found.set(shape, { [isX86(token) ? 'x86-64' : 'arm64']: token, ...found.get(shape) });
  }
  return [...found].map(([shape, tokens]) => ({ shape, tokens }));
}

/** `tool` beside `tool-arm64`: the name without a word is for x86-64. */
function suffixed(names: readonly string[]): Candidate[] {
  return names.flatMap((name) => {
    const suffix = ['-arm64', '-aarch64', '_arm64', '_aarch64'].find((one) => names.includes(`${name}${one}`));
    return suffix === undefined ? [] : [{ shape: `${name}\0`, tokens: { 'x86-64': '', arm64: suffix } }];
  });
}

function score(shape: string, name: string): number {
  const lower = shape.toLowerCase();
  const extra =
    lower
      .replace(name, '')
      .match(/debug|dbg|symbols|fips|cuda|rocm|race|slim|full|boring|desktop|gui|server|agent|operator|installer|proxy/g) ?? [];
  return (
    (lower.startsWith(name) ? 8 : 0) +
    (lower.includes('linux') ? 4 : 0) +
    (/musl|static/.test(lower) ? 3 : /gnu|glibc/.test(lower) ? -3 : 0) +
    (lower.endsWith('.zip') ? -1 : 0) -
    4 * extra.length -
    shape.length / 100
  );
}

/** A list of checksums of several files. */
const LIST = /(?:^|[._-])(?:checksums?|sha(?:sums?)?(?:256|512)(?:sums?)?|shasums?)(?:[._-]?(?:sha)?(?:256|512))?(?:\.txt|\.sums?)?$/i;

function checksumOf(files: Readonly<Record<Arch, string>>, { assets }: Listing, generalize: (name: string) => string): string {
  const names = new Set(assets.map(({ name }) => name));
  const both = (suffix: string): boolean => ARCHES.every((arch) => names.has(`${files[arch]}${suffix}`));
  const beside = ['.sha256', '.sha256sum', '.sha256.txt', '.sha512', '.sha512sum'].find(both);
  if (beside !== undefined) return `{url}${beside}`;
  const isList = (one: string): boolean => LIST.test(one);
  const lists = [...names].filter(isList);
  const general = lists.filter((one) => !OTHER_SYSTEMS.test(one) && one.match(TOKEN) === null);
  const [list] = general.toSorted((a, b) => Number(!/256/.test(a)) - Number(!/256/.test(b)) || a.length - b.length);
  if (list !== undefined) return generalize(list);
  // A list for each architecture, with Go's words or with uname's: `sha256sum-amd64.txt`.
  const isOwn = (one: string): boolean => /^(?:checksums?|sha)/i.test(one) && isList(one.replace(TOKEN, '').replace(/[._-]+(?=\.|$)/, ''));
  const own = pairs(
    [...names].filter((one) => !OTHER_SYSTEMS.test(one) && isOwn(one)),
    TOKEN,
  ).find(({ tokens }) => ['amd64 arm64', 'x86_64 aarch64'].includes(`${tokens['x86-64']} ${tokens.arm64}`));
  if (own !== undefined) return generalize(own.shape.replaceAll('\0', own.tokens.arm64 === 'arm64' ? '{goarch}' : '{machine}'));
  const known = ARCHES.every((arch) =>
    assets.some(({ name, digest }) => name === files[arch] && /^sha256:[0-9a-f]{64}$/.test(digest ?? '')),
  );
  return known ? 'github' : 'none';
}

const SIGNATURES: readonly (readonly [string, SignatureFile['kind']])[] = [
  ['.sigstore.json', 'sigstore'],
  ['.sigstore', 'sigstore'],
  ['.bundle', 'sigstore'],
  ['.cosign.bundle', 'sigstore'],
  ['.intoto.jsonl', 'sigstore'],
  ['.asc', 'pgp'],
  ['.gpg', 'pgp'],
  ['.sig', 'unknown'],
  ['.minisig', 'unknown'],
];

function signaturesOf(files: Readonly<Record<Arch, string>>, list: string | undefined, { assets }: Listing): SignatureFile[] {
  const names = new Set(assets.map(({ name }) => name));
  const ofFile = SIGNATURES.filter(([suffix]) => ARCHES.every((arch) => names.has(`${files[arch]}${suffix}`))).map(([suffix, kind]) => ({
    kind,
    of: 'file' as const,
    url: `{url}${suffix}`,
  }));
  const ofList =
    list === undefined
      ? []
      : SIGNATURES.filter(([suffix]) => names.has(`${list}${suffix}`)).map(([suffix, kind]) => ({
          kind,
          of: 'checksum' as const,
          url: `{checksum}${suffix}`,
        }));
  return [...ofFile, ...ofList];
}

/**
 * Patterns that match files of a release for both architectures, the likeliest first; none if upstream has no Linux programs for both.
 */
export function proposeAssets(listing: Listing, name: string): AssetProposal[] {
  const { version } = splitTag(listing.tag_name);
  const generalize = (text: string): string => text.replaceAll(version, '{version}');
  const names = listing.assets
    .map((one) => one.name)
    .filter((one) => !OTHER_SYSTEMS.test(one) && !NO_PROGRAM.test(one.replaceAll(version, '')));
  const candidates = [...pairs(names, TOKEN), ...suffixed(names)].filter(({ tokens }) =>
    ARCHES.every((arch) => tokens[arch] !== undefined),
  );
  const triples = pairs(names, TRIPLE).filter(({ tokens }) => ARCHES.every((arch) => tokens[arch] !== undefined));
  const all = candidates.length > 0 ? candidates : triples;
  return all
    .toSorted((a, b) => score(b.shape, name) - score(a.shape, name))
    .map(({ shape, tokens }) => {
      const words: ArchWords = { 'x86-64': tokens['x86-64'] ?? '', arm64: tokens.arm64 ?? '' };
      const files: Record<Arch, string> = { 'x86-64': shape.replaceAll('\0', words['x86-64']), arm64: shape.replaceAll('\0', words.arm64) };
      const isMachine = words['x86-64'] === 'x86_64' && words.arm64 === 'aarch64';
      const isGo = words['x86-64'] === 'amd64' && words.arm64 === 'arm64';
      const checksum = checksumOf(files, listing, generalize);
      const list =
        checksum.startsWith('{url}') || ['github', 'none'].includes(checksum)
          ? undefined
          : checksum.replaceAll('{version}', version).replaceAll('{goarch}', 'amd64').replaceAll('{machine}', 'x86_64');
      return {
        asset: generalize(shape.replaceAll('\0', isMachine ? '{machine}' : '{arch}')),
        arch: isMachine || isGo ? undefined : words,
        files,
        checksum,
        signatures: signaturesOf(files, list, listing),
      };
    });
}

/** The pattern for a URL of one version and architecture, such as `…/helm-v4.3.0-linux-amd64.tar.gz`. */
export function generalizeUrl(url: string, version: string): string {
  if (url.includes('{version}')) return url;
  if (!url.includes(version))
    throw new UserError(`the URL does not contain the version ${version}`, {
      where: url,
      next: 'write {version} in its place, or pass another --version',
    });
  return url
    .replaceAll(version, '{version}')
    .replaceAll(/(?<![a-z0-9])(?:amd64|arm64)(?![a-z0-9])/g, '{arch}')
    .replaceAll(/(?<![a-z0-9])(?:x86_64|aarch64)(?![a-z0-9])/g, '{machine}');
}
