import {
  ARCHES,
  brandedBy,
  EXTENSION_NAME,
  parseJson,
  type ImageVersion,
  type TargetName,
  type UpstreamVersion,
} from '@flatcar/core/browser';
import * as v from 'valibot';
import { KEYS } from './layout.ts';

/** Version of the published schemas; raised if a reader of the old version would misread the new one. */
export const SCHEMA = 1;

const hex = (digits: number): v.GenericSchema<string> => v.pipe(v.string(), v.regex(new RegExp(`^[0-9a-f]{${digits}}$`)));
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
/** Relative to the root of the tree, with `/` between folders; never leaves the tree. */
const Path = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9._+-]*(?:\/[A-Za-z0-9][A-Za-z0-9._+-]*)*$/, 'must be a plain path within the tree'),
);
const Name = v.pipe(v.string(), v.regex(EXTENSION_NAME));

/** A file of the tree, by its digest. */
const FileSchema = v.strictObject({ path: Path, size: count, sha256: hex(64) });

/** What makes an image of another one that a node may have. */
const DeltaSchema = v.strictObject({
  /** `blocks`: bytes at offsets, of an image of the same payload; `zstd`: a frame as `zstd --patch-from` makes it. docs/deltas.md has both. */
  kind: v.picklist(['blocks', 'zstd']),
  /** Digest (sha256) of the image that the node must have. */
  from: hex(64),
  ...FileSchema.entries,
});

/** One image. */
export const ImageSchema = v.strictObject({
  /** `portable` or a Flatcar release. */
  target: brandedBy<TargetName>(v.pipe(v.string(), v.regex(/^(?:portable|\d+\.\d+\.\d+)$/))),
  architecture: v.picklist(ARCHES),
  format: v.picklist(['squashfs', 'ddi']),
  /** Sidecars are located beside it: `.raw` becomes `.manifest.json`, `.spdx.json`, `.provenance.json`. */
  path: Path,
  size: count,
  sha256: hex(64),
  sha512: hex(128),
  /** Of disk images: the root hash of their dm-verity tree, and whether they contain its signature. */
  roothash: v.optional(hex(64)),
  signed: v.optional(v.boolean()),
  /** Digests (sha256) of the sidecars. */
  manifest: hex(64),
  sbom: hex(64),
  provenance: hex(64),
  /** Block lists from the nearest release on, then patches from the newest version on; each makes exactly this image. */
  deltas: v.optional(v.array(DeltaSchema)),
});

/** Minimal versions that a host must have; the exact kernel if the image has modules. */
const Needs = v.strictObject({
  systemd: v.string(),
  glibc: v.optional(v.string()),
  kernel: v.optional(v.string()),
  libraries: v.array(v.string()),
});

/** One version of an extension with all its images. */
export const VersionSchema = v.strictObject({
  /** As in file names: upstream's version, with `-<revision>` if the revision is not 0. */
  version: brandedBy<ImageVersion>(v.string()),
  upstream: brandedBy<UpstreamVersion>(v.string()),
  revision: count,
  /** By architecture: modules and libraries may differ. */
  needs: v.partial(v.strictObject({ 'x86-64': Needs, arm64: Needs })),
  components: v.array(v.strictObject({ name: v.string(), version: v.string(), license: v.string(), origin: v.string() })),
  replaces: v.array(v.string()),
  conflicts: v.array(v.string()),
  /** Extensions that must be merged as well. */
  requires: v.array(v.string()),
  /** Digest from the lock of everything that decides the bytes of this version. */
  packaging: v.optional(hex(64)),
  /** Payloads of the images: from `<architecture> <format>` to the payload's key and the digest of its published record. */
  payloads: v.record(v.string(), v.strictObject({ key: hex(64), record: hex(64) })),
  /** Day on which its first image was published (UTC), if the publisher recorded it. */
  published: v.optional(v.pipe(v.string(), v.isoDate())),
  /** Why the version must no longer be used, and since when; `by` is its replacement. */
  withdrawn: v.optional(v.strictObject({ reason: v.string(), by: v.string(), date: v.optional(v.pipe(v.string(), v.isoDate())) })),
  /** Sorted by target, architecture. */
  images: v.array(ImageSchema),
});

/** What is published of one extension; listed with its digest in the top index. */
export const ExtensionIndexSchema = v.strictObject({
  schema: v.literal(SCHEMA),
  name: Name,
  kind: v.picklist(['sysext', 'confext']),
  summary: v.string(),
  /** Whether nodes depend on it: they do not reboot into a release without an image of it. */
  essential: v.boolean(),
  /** What nodes follow by default: the newest version, or the newest of the minor version that they have. */
  follow: v.picklist(['latest', 'minor']),
  /** Newest first. */
  versions: v.array(VersionSchema),
});

/** An update payload in the official layout, as Omaha and Nebraska want it (`<package>` entries). */
export const PackageSchema = v.strictObject({
  /** `flatcar-<name>.gz` */
  name: v.string(),
  extension: Name,
  version: v.string(),
  release: v.string(),
  architecture: v.picklist(ARCHES),
  /** Of the payload. */
  path: Path,
  size: count,
  /** base64 of sha1, Omaha's `hash`. */
  sha1: v.string(),
  sha256: hex(64),
  /** Of the image beside it, `flatcar-<name>.raw`. */
  image: FileSchema,
});

/** An extension in the top index: what a reader searches before it reads the extension's own index. Withdrawn versions do not count. */
export const EntrySchema = v.strictObject({
  name: Name,
  kind: v.picklist(['sysext', 'confext']),
  summary: v.string(),
  newest: v.string(),
  /** Newest first. */
  versions: v.array(v.string()),
  /** Targets and architectures with an image of any of these versions. */
  targets: v.array(v.string()),
  architectures: v.array(v.picklist(ARCHES)),
  ...FileSchema.entries,
});

/** What a publish changed: a new version, or the reason for which one was withdrawn. */
export const ChangeSchema = v.strictObject({
  date: v.pipe(v.string(), v.isoDate()),
  name: Name,
  version: v.string(),
  withdrawn: v.optional(v.string()),
});

/** The index, which the tree's metadata vouches for, and which covers the whole tree. */
export const IndexSchema = v.strictObject({
  schema: v.literal(SCHEMA),
  /** Grows with every publish: a reader that knows a higher serial sees an old tree. */
  serial: count,
  /** URL of the tree, as in its transfer files. */
  baseUrl: v.pipe(v.string(), v.url()),
  /** Accepted origins of components: those that definitions prefer, or these kinds. */
  origins: v.union([v.literal('preferred'), v.array(v.string())]),
  /** Sorted by name. Files are named by their digests, so that readers of an old index find what it lists. */
  extensions: v.array(EntrySchema),
  /** The list of packages of the official layout. */
  packages: FileSchema,
  /** Public keys: the keyring that verifies sums on nodes, the certificate of disk images, and the key of update payloads. */
  keys: v.array(v.strictObject({ ...FileSchema.entries, path: v.picklist(Object.values(KEYS)) })),
  /** Fingerprints of the OpenPGP keys that sign the sums of this state. */
  sumsKeys: v.array(hex(40)),
  /** The day from which systemd-sysupdate refuses the sums of this state, unless they are signed again. */
  sumsUntil: v.pipe(v.string(), v.isoDate()),
  /** The latest changes, newest first; not all of them. */
  changes: v.array(ChangeSchema),
  /** Files that only the previous index lists: kept for its readers until the next publish. */
  superseded: v.array(Path),
});

/** The list of update packages. */
export const PackagesSchema = v.strictObject({ schema: v.literal(SCHEMA), packages: v.array(PackageSchema) });

export type PublishedFile = v.InferOutput<typeof FileSchema>;
export type PublishedDelta = v.InferOutput<typeof DeltaSchema>;
export type PublishedImage = v.InferOutput<typeof ImageSchema>;
export type PublishedVersion = v.InferOutput<typeof VersionSchema>;
export type ExtensionIndex = v.InferOutput<typeof ExtensionIndexSchema>;
export type UpdatePackage = v.InferOutput<typeof PackageSchema>;
export type Index = v.InferOutput<typeof IndexSchema>;
export type Change = v.InferOutput<typeof ChangeSchema>;
export type ListedKey = Index['keys'][number];
export type Packages = v.InferOutput<typeof PackagesSchema>;

/** A document of a later schema is reported as such before anything else is checked. */
const Versioned = v.looseObject({
  schema: v.pipe(
    v.number(),
    v.maxValue(SCHEMA, ({ input }) => `this is schema ${input}, and ${SCHEMA} is the newest known here: update flatcar-ext`),
  ),
});

function parse<T extends v.GenericSchema>(schema: T, text: string, where: string): v.InferOutput<T> {
  const about = { what: 'index', where, next: 'fetch it again, or update flatcar-ext' };
  parseJson(Versioned, text, about);
  return parseJson(schema, text, about);
}

/** Reads the index, which the caller has verified; errors name `where`. */
export const parseIndex = (text: string, where: string): Index => parse(IndexSchema, text, where);
/** Reads an extension's index, whose digest the caller has checked. */
export const parseExtensionIndex = (text: string, where: string): ExtensionIndex => parse(ExtensionIndexSchema, text, where);
/** Reads the list of update packages, whose digest the caller has checked. */
export const parsePackages = (text: string, where: string): Packages => parse(PackagesSchema, text, where);

/** The text of an index: fields in the order of its schema. */
export const indexText = (index: Index): string => `${JSON.stringify(v.parse(IndexSchema, index))}\n`;
export const extensionIndexText = (index: ExtensionIndex): string => `${JSON.stringify(v.parse(ExtensionIndexSchema, index))}\n`;
export const packagesText = (packages: readonly UpdatePackage[]): string =>
  `${JSON.stringify(v.parse(PackagesSchema, { schema: SCHEMA, packages }))}\n`;
