import { lstat, readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import * as v from 'valibot';
import { brandedBy, type ImageVersion, type TargetName, type UpstreamVersion } from '../model/brands.ts';
import { UserError } from '../util/errors.ts';
import { parseJson } from '../util/json.ts';
import type { Image } from '../model/image.ts';
import type { Payload } from '../model/payload.ts';
import { PublishBlockerSchema } from '../model/payload-record.ts';
import { sidecarPaths } from './paths.ts';

const digest = (length: number): v.GenericSchema<string> => v.pipe(v.string(), v.regex(new RegExp(`^[0-9a-f]{${length}}$`)));

/** What a client needs to know about an image before it downloads the image; published as a JSON schema. */
export const ManifestSchema = v.strictObject({
  schema: v.literal(1),
  name: v.string(),
  kind: v.picklist(['sysext', 'confext']),
  summary: v.string(),
  version: brandedBy<ImageVersion>(v.string()),
  /** Upstream's version, and the number of packaging changes since. */
  upstream: brandedBy<UpstreamVersion>(v.string()),
  revision: v.number(),
  /** `portable` or a Flatcar release. */
  target: brandedBy<TargetName>(
    v.pipe(v.string(), v.regex(/^(?:portable|\d+\.\d+\.\d+)$/, "must be 'portable' or a Flatcar release such as 4593.2.5")),
  ),
  architecture: v.picklist(['x86-64', 'arm64']),
  format: v.picklist(['squashfs', 'ddi']),
  profile: v.picklist(['fast', 'publish']),
  file: v.string(),
  size: v.number(),
  sha256: digest(64),
  sha512: digest(128),
  roothash: v.optional(digest(64)),
  signed: v.optional(v.boolean()),
  /** The least that the host must have; the exact kernel if the image has modules. */
  needs: v.strictObject({
    systemd: v.string(),
    glibc: v.optional(v.string()),
    kernel: v.optional(v.string()),
    libraries: v.array(v.string()),
  }),
  components: v.array(
    v.strictObject({
      name: v.string(),
      version: v.string(),
      license: v.string(),
      origin: v.picklist(['upstream', 'go', 'cargo', 'debian', 'source', 'files']),
    }),
  ),
  payload: digest(64),
  /** Why it must not be published; empty means that it can be. */
  publishBlockers: v.array(PublishBlockerSchema),
  waived: v.record(v.string(), v.string()),
  /** Paths of the host that the image hides on purpose. */
  replaces: v.array(v.string()),
  /** Extensions that the image cannot be merged with. */
  conflicts: v.array(v.string()),
  /** Extensions that must be merged beside the image. */
  requires: v.array(v.string()),
  /** Whether nodes depend on the extension, and what they follow by default: the newest version, or the newest of their minor version. */
  essential: v.boolean(),
  follow: v.picklist(['latest', 'minor']),
  /** Digest of everything that decides the bytes of this version, for all architectures and targets. */
  packaging: v.optional(digest(64)),
});

export type Manifest = v.InferOutput<typeof ManifestSchema>;

/** The manifest of an image, for clients. */
export function manifestOf(image: Image, payload: Payload): Manifest {
  const { extension, version, arch, format, target, file, sha256, sha512, size, roothash, signed } = image;
  const {
    summary,
    kind,
    profile,
    upstream,
    revision,
    needs,
    components,
    key,
    publishBlockers,
    waived,
    replaces,
    conflicts,
    requires,
    essential,
    follow,
    packaging,
  } = payload;
  return {
    schema: 1,
    name: extension,
    kind,
    summary,
    version,
    upstream,
    revision,
    target,
    architecture: arch,
    format,
    profile,
    file: basename(file),
    size,
    sha256,
    sha512,
    roothash,
    signed,
    needs: { ...needs, libraries: [...needs.libraries] },
    components: components.map(({ name, version: its, license, origin }) => ({ name, version: its, license, origin })),
    payload: key,
    publishBlockers: [...publishBlockers],
    waived: { ...waived },
    replaces: [...replaces],
    conflicts: [...conflicts],
    requires: [...requires],
    essential,
    follow,
    packaging,
  };
}

const NEXT = 'fetch or build the image again';
/** Size limit, in bytes. A manifest has a few kilobytes. */
const MAX_BYTES = 4 << 20;

/** Reads a manifest's text. Throws a UserError with every wrong field; `where` is the file in errors. */
export const parseManifest = (text: string, where: string): Manifest =>
  parseJson(ManifestSchema, text, { what: 'manifest', where, next: NEXT });

/** Reads the manifest beside an image. Throws a UserError with its path and every wrong field. */
export async function readManifest(image: string): Promise<Manifest> {
  const where = sidecarPaths(image).manifest;
  const info = await lstat(where).catch((cause: unknown) => {
    throw new UserError('the image has no manifest beside it', {
      where,
      next: 'keep an image and its sidecars together, or build it again',
      cause,
    });
  });
  if (!info.isFile() || info.size > MAX_BYTES)
    throw new UserError('invalid manifest: not a plain file of at most 4 MiB', { where, next: NEXT });
  return parseManifest(await readFile(where, 'utf8'), where);
}
