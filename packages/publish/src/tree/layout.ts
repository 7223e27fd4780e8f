import { ARCHES, archWords, imageBase, type Arch, type ImageVersion, type TargetName } from '@flatcar/core/browser';

/**
 * Where files of the published tree are located. Paths are relative to its root.
 *
 *   index.html                               the catalogue page, which reads index.json in a browser
 *   metadata/                                TUF metadata: <n>.root.json, timestamp.json, <n>.snapshot.json, <n>.targets.json
 *   <sha256>.index.json                      what is published: the one target of the metadata, which covers everything below
 *   index.json                               the same, for people and plain tools; it is not verified, and clients do not read it
 *   <name>/index-<sha256>.json               one extension's images; index.json lists it by that digest
 *   <name>/portable/, <name>/<release>/      images with their sidecars, SHA256SUMS, SHA256SUMS.gpg
 *   <name>/payload/<key>.json                records of payloads, from which images are bound to more releases
 *   <name>/deltas/<sha256>.blocks|zst        what leads from an image that a node has to another one (docs/deltas.md)
 *   <name>/transfer/<kind>/<channel>.conf    transfer files for systemd-sysupdate, and the same as .transfer
 *   <board>/<release>/flatcar-<name>.raw|gz  the official layout with its own sums
 *   keys/import-pubring.gpg, keys/…          public keys
 */
export const INDEX = 'index.json';
export const PAGE = 'index.html';
export const SUMS = 'SHA256SUMS';
/** Suffix of a file's signature (systemd-sysupdate requests SHA256SUMS.gpg). */
export const SIGNATURE = '.gpg';

/** A path of the tree in a URL. A `+` in a version must be `%2B`, because S3 reads `+` as a space. */
export const urlPath = (path: string): string => path.split('/').map(encodeURIComponent).join('/');

/** The file name of a path of the tree. */
export const fileName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
/** The folder of a path of the tree. */
export const folderName = (path: string): string => path.slice(0, path.lastIndexOf('/'));

/** Public keys: OpenPGP keys as one binary keyring, roothash certificate and update payload key. */
export const KEYS = {
  keyring: 'keys/import-pubring.gpg',
  certificate: 'keys/roothash.crt',
  update: 'keys/update-payload-key.pub.pem',
} as const;

/** The index under the name by which clients read it. */
export const targetPath = (sha256: string): string => `${sha256}.${INDEX}`;

/** Folder of the metadata. */
export const METADATA = 'metadata';

/** Path of metadata of a role; the timestamp has no version in its name. */
export const metadataPath = (role: string, version?: number): string =>
  `${METADATA}/${version === undefined ? '' : `${version}.`}${role}.json`;

/** Path of a version of the root of trust. */
export const rootPath = (version: number): string => metadataPath('root', version);

/** Folder of an extension's images for one target, given by its name (`targetName`). */
export function targetFolder(name: string, target: string): string {
  return `${name}/${target}`;
}

/** What identifies an image. */
export interface ImageId {
  readonly name: string;
  readonly version: ImageVersion;
  readonly target: TargetName;
  readonly architecture: Arch;
}

/** Path of an image; its sidecars are located beside it. */
export function imagePath({ name, version, target, architecture }: ImageId): string {
  return `${targetFolder(name, target)}/${imageBase(name, version, target, architecture)}.raw`;
}

/** Path of an extension's index. */
export function extensionIndexPath(name: string, sha256: string): string {
  return `${name}/index-${sha256}.json`;
}

/** Path of a payload's record. */
export function payloadPath(name: string, key: string): string {
  return `${name}/payload/${key}.json`;
}

/** Path of a delta; its own digest names it, because its bytes depend on two images and on the version of zstd. */
export function deltaPath(name: string, kind: 'blocks' | 'zstd', sha256: string): string {
  return `${name}/deltas/${sha256}.${kind === 'blocks' ? 'blocks' : 'zst'}`;
}

/** Path of the list of update packages. */
export function packagesPath(sha256: string): string {
  return `packages-${sha256}.json`;
}

/** Folder of a release in the official layout (flatcar-postinst: `<base>/<board>/<version>/flatcar-<name>.gz`). */
export function officialFolder(release: string, arch: Arch): string {
  return `${archWords(arch).board}/${release}`;
}

/** File name in the official layout, without its suffix. */
export function officialBase(name: string): string {
  return `flatcar-${name}`;
}

/** What a transfer file follows: the newest version, the newest of a branch (`1.36`), or one version. */
export type Channel = { readonly kind: 'latest' } | { readonly kind: 'branch' | 'pinned'; readonly version: string };

/** Folder and file name (without suffix) of a transfer file: `portable` images, or those bound to the running `release`. */
export function transferPath(name: string, kind: 'portable' | 'release', channel: Channel): string {
  return `${name}/transfer/${kind}/${channel.kind === 'latest' ? 'latest' : channel.version}`;
}

/** Names that extensions cannot have, because the tree has folders of these names. */
export const RESERVED: ReadonlySet<string> = new Set(['keys', METADATA, 'redirects', ...ARCHES.map((arch) => archWords(arch).board)]);
