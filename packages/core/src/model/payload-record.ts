import { lstat, readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { ARCHES } from './arch.ts';
import { brandedBy, type ImageVersion, type UpstreamVersion } from './brands.ts';
import { UserError } from '../util/errors.ts';
import { parseJson } from '../util/json.ts';
import { PUBLISH_BLOCKERS, type Payload } from './payload.ts';

/** Size limit, in bytes. A record lists every file of an image; the largest has some megabytes. */
const MAX_BYTES = 64 << 20;

const text = (most = 4096): v.GenericSchema<string> => v.pipe(v.string(), v.maxLength(most));
const digest = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'not a sha256'));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const name = v.pipe(v.string(), v.maxLength(64), v.regex(/^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/, 'not a valid extension name'));
// Names of files and folders: not a path, and not hidden.
const version = v.pipe(v.string(), v.maxLength(100), v.regex(/^[0-9][0-9A-Za-z.+]*(?:-[0-9A-Za-z.+]+)*$/, 'not a valid version'));
const hostPath = v.pipe(v.string(), v.maxLength(4096), v.regex(/^(?!\/)(?!(?:.*\/)?\.\.?(?:\/|$))[^\0\n]+$/, 'not a path in an image'));

/** The file of a payload: beside its record, or the portable image in the folder `portable`; empty in a published record, which has no file. */
const file = v.pipe(v.string(), v.maxLength(300), v.regex(/^$|^(?:\.\.\/portable\/)?[0-9a-z][0-9A-Za-z.+_-]*$/, 'not a plain file name'));

const Material = v.strictObject({ locator: text(), sha256: digest, size: v.optional(count), proof: text() });
const BuiltComponent = v.strictObject({
  name: text(200),
  version: text(200),
  license: text(),
  origin: v.picklist(['upstream', 'go', 'cargo', 'debian', 'source', 'files']),
  materials: v.array(Material),
  parameters: v.record(v.string(), text(1 << 16)),
});
/** See PublishBlocker. */
export const PublishBlockerSchema = v.strictObject({ code: v.picklist(PUBLISH_BLOCKERS), what: text() });
const TreeEntry = v.strictObject({
  path: hostPath,
  type: v.picklist(['file', 'dir', 'link']),
  mode: v.pipe(count, v.maxValue(0o7777)),
  size: count,
  sha256: v.optional(digest),
  link: v.optional(text()),
  component: text(200),
});
const SourcePackage = v.strictObject({ name: text(200), version: text(200) });
/** A module or package in an image, in records. */
export const EmbeddedModuleSchema = v.strictObject({
  type: text(100),
  name: text(),
  version: text(),
  qualifiers: v.optional(v.record(v.string(), text())),
  paths: v.array(hostPath),
  source: v.optional(SourcePackage),
  builtUsing: v.optional(v.array(SourcePackage)),
  license: v.optional(v.union([v.strictObject({ expression: text() }), v.strictObject({ text: text(4 << 20) })])),
});

/** The record of a payload, which one job writes and another reads. */
export const PayloadSchema = v.strictObject({
  key: digest,
  extension: name,
  summary: text(1000),
  kind: v.picklist(['sysext', 'confext']),
  version: brandedBy<ImageVersion>(version),
  upstream: brandedBy<UpstreamVersion>(version),
  revision: count,
  arch: v.picklist(ARCHES),
  format: v.picklist(['squashfs', 'ddi']),
  profile: v.picklist(['fast', 'publish']),
  file,
  sha256: digest,
  size: count,
  releaseFileOffset: count,
  reload: v.boolean(),
  tree: v.strictObject({ digest, entries: v.array(TreeEntry) }),
  needs: v.strictObject({
    systemd: text(100),
    glibc: v.optional(text(100)),
    kernel: v.optional(text(100)),
    libraries: v.array(text(1000)),
  }),
  components: v.array(BuiltComponent),
  tools: v.array(v.strictObject({ name: text(200), version: text(200), sha256: digest, status: text() })),
  publishBlockers: v.array(PublishBlockerSchema),
  modules: v.array(EmbeddedModuleSchema),
  waived: v.record(v.string(), text()),
  replaces: v.array(text()),
  conflicts: v.array(name),
  requires: v.array(name),
  essential: v.boolean(),
  follow: v.picklist(['latest', 'minor']),
  packaging: v.optional(digest),
  builders: v.optional(v.picklist([1, 2])),
});

/**
 * Reads a payload's record. It may come from a job that runs other people's code: the schema checks that names are names, files are plain and digests
 * are digests. checkClaims checks whether the record is true.
 */
export function parsePayload(json: string, where: string): Payload {
  return parseJson(PayloadSchema, json, { what: 'payload record', where, next: 'build it again' });
}

/** Reads the record in a file. Throws a UserError for a link, and for a file of more than 64 MiB. */
export async function readPayload(path: string): Promise<Payload> {
  const info = await lstat(path);
  if (!info.isFile() || info.size > MAX_BYTES)
    throw new UserError('invalid payload record: not a plain file of at most 64 MiB', { where: path });
  const payload = parsePayload(await readFile(path, 'utf8'), path);
  if (payload.file === '')
    throw new UserError('invalid payload record: file: not a plain file name', { where: path, next: 'build it again' });
  return payload;
}
