import { ARCHES, brandedBy, parseJson, type ImageVersion, type TargetName, type UpstreamVersion } from '@flatcar/core/engine';
import * as v from 'valibot';
import { KEYS } from './layout.ts';

/** Version of the published schemas; raised when a reader of the old form would misread the new one. */
export const SCHEMA = 1;

const hex = (digits: number): v.GenericSchema<string> => v.pipe(v.string(), v.regex(new RegExp(`^[0-9a-f]{${digits}}$`)));
const count = v.pipe(v.number(), v.integer(), v.minValue(0));
/** Relative to the root of the tree; `/` between folders; never leaves the tree. */
const Path = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9._+-]*(?:\/[A-Za-z0-9][A-Za-z0-9._+-]*)*$/, 'must be a plain path within the tree'),
);
const Name = v.pipe(v.string(), v.regex(/^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/));

/** A file of the tree, by its digest. */
const FileSchema = v.strictObject({ path: Path, size: count, sha256: hex(64) });

/** One image. */
export const ImageSchema = v.strictObject({
  /** `portable` or a Flatcar release. */
  target: brandedBy<TargetName>(v.pipe(v.string(), v.regex(/^(?:portable|\d+\.\d+\.\d+)$/))),
  architecture: v.picklist(ARCHES),
  format: v.picklist(['squashfs', 'ddi']),
  /** Its sidecars stand beside it: `.raw` becomes `.manifest.json`, `.spdx.json`, `.provenance.json`. */
  path: Path,
  size: count,
  sha256: hex(64),
  sha512: hex(128),
  /** Of disk images: the root of their dm-verity tree, and whether they carry its signature. */
  roothash: v.optional(hex(64)),
  signed: v.optional(v.boolean()),
  /** Digests (sha256) of the sidecars. */
  manifest: hex(64),
  sbom: hex(64),
  provenance: hex(64),
});

/** What a host must have, at least; kernel exact where modules are in the image. */
const Needs = v.strictObject({
  systemd: v.string(),
  glibc: v.optional(v.string()),
  kernel: v.optional(v.string()),
  libraries: v.array(v.string()),
});

/** One version of an extension with all its images. */
export const VersionSchema = v.strictObject({
  /** As file names have it: upstream's version, `-<revision>` when the revision is not 0. */
  version: brandedBy<ImageVersion>(v.string()),
  upstream: brandedBy<UpstreamVersion>(v.string()),
  revision: count,
  /** By architecture: for modules and libraries they may differ. */
  needs: v.partial(v.strictObject({ 'x86-64': Needs, arm64: Needs })),
  components: v.array(v.strictObject({ name: v.string(), version: v.string(), license: v.string(), origin: v.string() })),
  replaces: v.array(v.string()),
  conflicts: v.array(v.string()),
  /** Extensions that must be merged beside it. */
  requires: v.array(v.string()),
  /** Digest of what decides the bytes of this version, as its lock had it. */
  packaging: v.optional(hex(64)),
  /** What the images were bound from: `<architecture> <format>` to the payload's key and the digest of its published record. */
  payloads: v.record(v.string(), v.strictObject({ key: hex(64), record: hex(64) })),
  /** Why it must not be used any more; `by` is the version that takes its place. */
  withdrawn: v.optional(v.strictObject({ reason: v.string(), by: v.string() })),
  /** Sorted by target, architecture. */
  images: v.array(ImageSchema),
});

/** What is published of one extension; listed with its digest in the top index. */
export const ExtensionIndexSchema = v.strictObject({
  schema: v.literal(SCHEMA),
  name: Name,
  kind: v.picklist(['sysext', 'confext']),
  summary: v.string(),
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

/** index.json: the one file whose signature stands for the whole tree. */
export const IndexSchema = v.strictObject({
  schema: v.literal(SCHEMA),
  /** Grows with every publish: a reader that has seen a higher one is being shown an old tree. */
  serial: count,
  /** URL of the tree, as its transfer files have it. */
  baseUrl: v.pipe(v.string(), v.url()),
  /** Whose components' origins are accepted: those that definitions prefer, or these kinds. */
  origins: v.union([v.literal('preferred'), v.array(v.string())]),
  /** Sorted by name. Files are named by their digest, so that an old index keeps reading what it lists. */
  extensions: v.array(v.strictObject({ name: Name, summary: v.string(), newest: v.string(), ...FileSchema.entries })),
  /** Packages of the official layout, in a file of their own. */
  packages: FileSchema,
  /** Public keys that nothing else vouches for (the keyring has to be known before); absent in an index that was made before this was listed. */
  keys: v.optional(v.array(v.strictObject({ ...FileSchema.entries, path: v.picklist([KEYS.certificate, KEYS.update]) }))),
  /** Files that the index before this one listed, and this one does not: kept for whoever still reads that, gone with the next publish. */
  superseded: v.array(Path),
});

/** The file that `packages` names. */
export const PackagesSchema = v.strictObject({ schema: v.literal(SCHEMA), packages: v.array(PackageSchema) });

export type PublishedFile = v.InferOutput<typeof FileSchema>;
export type PublishedImage = v.InferOutput<typeof ImageSchema>;
export type PublishedVersion = v.InferOutput<typeof VersionSchema>;
export type ExtensionIndex = v.InferOutput<typeof ExtensionIndexSchema>;
export type UpdatePackage = v.InferOutput<typeof PackageSchema>;
export type Index = v.InferOutput<typeof IndexSchema>;
export type ListedKey = NonNullable<Index['keys']>[number];
export type Packages = v.InferOutput<typeof PackagesSchema>;

/** A document of a later schema says so before anything else is looked at. */
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

/** Reads index.json; `where` is named in errors. Its signature is the caller's to check before. */
export const parseIndex = (text: string, where: string): Index => parse(IndexSchema, text, where);
/** Reads one extension's index, whose digest is the caller's to check before. */
export const parseExtensionIndex = (text: string, where: string): ExtensionIndex => parse(ExtensionIndexSchema, text, where);
/** Reads the list of update packages, whose digest is the caller's to check before. */
export const parsePackages = (text: string, where: string): Packages => parse(PackagesSchema, text, where);

/** How an index stands in its file: fields in the order of its schema, however it was put together. */
export const indexText = (index: Index): string => `${JSON.stringify(v.parse(IndexSchema, index))}\n`;
export const extensionIndexText = (index: ExtensionIndex): string => `${JSON.stringify(v.parse(ExtensionIndexSchema, index))}\n`;
export const packagesText = (packages: readonly UpdatePackage[]): string =>
  `${JSON.stringify(v.parse(PackagesSchema, { schema: SCHEMA, packages }))}\n`;
