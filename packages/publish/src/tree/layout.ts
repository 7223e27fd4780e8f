import { ARCHES, archWords, imageBase, type Arch, type Manifest } from '@flatcar/core/engine';

/**
 * Where things stand in the published tree. Paths are relative to its root.
 *
 *   index.json, index.json.gpg               what there is; the signature stands for everything below
 *   <name>/index-<sha256>.json               one extension's images; index.json lists it by that digest
 *   <name>/portable/, <name>/<release>/      images with their sidecars, SHA256SUMS, SHA256SUMS.gpg
 *   <name>/payload/<key>.json                records of payloads: with one, an image is bound to one more release
 *   <name>/transfer/<kind>/<channel>.conf    transfer files for systemd-sysupdate, and the same as .transfer
 *   <board>/<release>/flatcar-<name>.raw|gz  the official layout, with sums of its own
 *   keys/import-pubring.gpg, keys/…          public keys
 *   signatures/<sha256>.gpg                  in buckets: the index's signature by its digest
 */
export const INDEX = 'index.json';
export const SUMS = 'SHA256SUMS';
/** Appended to a signed file's name (systemd-sysupdate asks for SHA256SUMS.gpg). */
export const SIGNATURE = '.gpg';

/** A path of the tree as a URL has it: a `+` in a version must be `%2B`, which S3 would take for a blank. */
export const urlPath = (path: string): string => path.split('/').map(encodeURIComponent).join('/');

/** Public keys: OpenPGP keys as one binary keyring, roothash certificate, update payload key. */
export const KEYS = {
  keyring: 'keys/import-pubring.gpg',
  certificate: 'keys/roothash.crt',
  update: 'keys/update-payload-key.pub.pem',
} as const;

/**
 * Signature of the index that has this digest. Where index and signature cannot be replaced in one step it is put before both, so that whoever
 * reads between the two steps, or after a publisher died there, finds the signature of what is there.
 */
export const indexSignaturePath = (sha256: string): string => `signatures/${sha256}.gpg`;

/** Folder of an extension's images for one target, given by its name (`targetName`). */
export function targetFolder(name: string, target: string): string {
  return `${name}/${target}`;
}

/** What identifies an image. */
export type ImageId = Pick<Manifest, 'name' | 'version' | 'target' | 'architecture'>;

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

/** Path of the list of update packages. */
export function packagesPath(sha256: string): string {
  return `packages-${sha256}.json`;
}

/** Folder of the official layout for a release (flatcar-postinst: `<base>/<board>/<version>/flatcar-<name>.gz`). */
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

/** Names that extensions cannot have, because the tree has them: they would share a folder. */
export const RESERVED: ReadonlySet<string> = new Set(['keys', 'redirects', 'signatures', ...ARCHES.map((arch) => archWords(arch).board)]);
