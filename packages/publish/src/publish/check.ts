import type { KeyObject } from 'node:crypto';
import { open, readFile, stat } from 'node:fs/promises';
import {
  componentId,
  digestsOf,
  parseJson,
  parseReleaseFile,
  readContent,
  releaseFilePath,
  UserError,
  verifyVerity,
  type Manifest,
} from '@flatcar/core/engine';
import * as v from 'valibot';
import { checkPayload } from '../formats/crau.ts';

const wrong = (where: string, what: string): never => {
  throw new UserError(`the image or a sidecar does not match its manifest: ${what}`, {
    where,
    next: 'build the image again; nothing was published',
  });
};

/** A staged file to check, and the original file, which errors name. */
export interface Checked {
  readonly file: string;
  readonly where: string;
}

/** Checks an image as a node would: its digests, its release file and, for a disk image, the dm-verity tree. */
export async function checkImage({ file, where }: Checked, manifest: Manifest): Promise<void> {
  const { name, kind, version, architecture, target, format } = manifest;
  const digests = { size: (await stat(file)).size, ...(await digestsOf(file, ['sha256', 'sha512'])) };
  for (const key of ['size', 'sha256', 'sha512'] as const)
    if (digests[key] !== manifest[key]) wrong(where, `its ${key} is ${digests[key]} instead of ${manifest[key]}`);
  const { plainBlock } = await readContent(file, format, architecture);
  const path = releaseFilePath(name, kind);
  const offset = plainBlock(path) ?? wrong(where, `'${path}' is missing`);
  const block = Buffer.alloc(4096);
  const handle = await open(file, 'r');
  try {
    await handle.read(block, 0, block.length, offset);
  } finally {
    await handle.close();
  }
  const fields = parseReleaseFile(block.toString());
  const prefix = kind === 'sysext' ? 'SYSEXT' : 'CONFEXT';
  const expected: Record<string, string | undefined> = {
    ID: target === 'portable' ? '_any' : 'flatcar',
    VERSION_ID: target === 'portable' ? undefined : target,
    ARCHITECTURE: architecture,
    [`${prefix}_ID`]: name,
    [`${prefix}_VERSION_ID`]: version,
    [`${prefix}_LEVEL`]: undefined,
  };
  for (const [key, value] of Object.entries(expected))
    if (fields[key] !== value) wrong(where, `its release file has ${key}=${fields[key] ?? ''} instead of ${value ?? 'nothing'}`);
  if (format === 'ddi') {
    const roothash = await verifyVerity(file, architecture);
    if (roothash !== manifest.roothash) wrong(where, `its roothash is ${roothash} instead of ${manifest.roothash}`);
  }
}

/** Reads a sidecar. Errors name the file that it was staged from. */
async function readSidecar<S extends v.GenericSchema>(schema: S, { file, where }: Checked, what: string): Promise<v.InferOutput<S>> {
  const next = 'build the image again; nothing was published';
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new UserError('a sidecar is missing', { where, cause, next });
  });
  return parseJson(schema, text, { what, where, next });
}

/** The part of an SPDX document that publish reads. */
const SbomSchema = v.object({
  spdxVersion: v.literal('SPDX-2.3'),
  packages: v.array(
    v.object({
      SPDXID: v.string(),
      versionInfo: v.optional(v.string()),
      checksums: v.optional(v.array(v.object({ algorithm: v.string(), checksumValue: v.string() }))),
    }),
  ),
});

const ProvenanceSchema = v.object({
  predicateType: v.literal('https://slsa.dev/provenance/v1'),
  subject: v.tuple([v.object({ digest: v.object({ sha256: v.string() }) })]),
});

/** Checks that each component name has a package with the version of one of its components. */
function checkComponents(where: string, packages: v.InferOutput<typeof SbomSchema>['packages'], { components }: Manifest): void {
  const found = new Map(packages.map(({ SPDXID, versionInfo }) => [SPDXID, versionInfo]));
  if (found.size !== packages.length) wrong(where, 'invalid SPDX document: two packages have the same SPDXID');
  for (const name of new Set(components.map((one) => one.name))) {
    const versions = components.filter((one) => one.name === name).map(({ version }) => version);
    const id = componentId(name);
    if (!found.has(id)) wrong(where, `it does not list component '${name}'`);
    if (!versions.includes(found.get(id) ?? ''))
      wrong(where, `it lists component '${name}' as version '${found.get(id)}', and the manifest as ${versions.join(', ')}`);
  }
}

/** Checks that SBOM and provenance describe this image, and that the SBOM lists all of its components. */
export async function checkEvidence(files: { sbom: Checked; provenance: Checked }, manifest: Manifest): Promise<void> {
  const { packages } = await readSidecar(SbomSchema, files.sbom, 'SPDX 2.3 document');
  if (packages[0]?.checksums?.some(({ checksumValue }) => checksumValue === manifest.sha256) !== true)
    wrong(files.sbom.where, 'the SBOM is for another image');
  checkComponents(files.sbom.where, packages, manifest);
  const record = await readSidecar(ProvenanceSchema, files.provenance, 'SLSA provenance');
  if (record.subject[0].digest.sha256 !== manifest.sha256) wrong(files.provenance.where, 'the provenance is for another image');
}

/** Checks an update payload as update_engine would, and that it contains the image. Returns the digest of the payload. */
export async function checkUpdate({ file, where }: Checked, image: string, keys: readonly KeyObject[]): Promise<string> {
  const { sha256, payload } = await checkPayload(file, keys);
  if (sha256 !== image) wrong(where, 'the update payload contains another image');
  return payload;
}
