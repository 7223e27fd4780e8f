import type { KeyObject } from 'node:crypto';
import { open, readFile, stat } from 'node:fs/promises';
import { digestsOf, parseReleaseFile, readContent, releaseFilePath, UserError, verifyVerity, type Manifest } from '@flatcar/core';
import { checkPayload } from './crau.ts';

const wrong = (where: string, what: string): never => {
  throw new UserError(`what was staged is not what was meant: ${what}`, { where, next: 'build the image again; nothing was published' });
};

/** Checks an image as a node would: its digests, its release file, and of a disk image the dm-verity tree. */
export async function checkImage(file: string, manifest: Manifest): Promise<void> {
  const { name, kind, version, architecture, target, format } = manifest;
  const digests = { size: (await stat(file)).size, ...(await digestsOf(file, ['sha256', 'sha512'])) };
  for (const key of ['size', 'sha256', 'sha512'] as const)
    if (digests[key] !== manifest[key]) wrong(file, `its ${key} is ${digests[key]}, the manifest says ${manifest[key]}`);
  const { plainBlock } = await readContent(file, format, architecture);
  const path = releaseFilePath(name, kind);
  const offset = plainBlock(path) ?? wrong(file, `'${path}' is missing`);
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
    if (fields[key] !== value) wrong(file, `its release file has ${key}=${fields[key] ?? ''} where ${value ?? 'nothing'} was meant`);
  if (format === 'ddi') {
    const roothash = await verifyVerity(file, architecture);
    if (roothash !== manifest.roothash) wrong(file, `its roothash is ${roothash}, the manifest says ${manifest.roothash}`);
  }
}

async function readJson(file: string): Promise<Record<string, unknown>> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new UserError('a sidecar is missing or no JSON', { where: file, cause, next: 'build the image again; nothing was published' });
  }
}

/** Checks that SBOM and provenance are there and speak of this very image. */
export async function checkEvidence(files: { sbom: string; provenance: string }, manifest: Manifest): Promise<void> {
  const sbom = (await readJson(files.sbom)) as { spdxVersion?: string; packages?: { checksums?: { checksumValue?: string }[] }[] };
  if (sbom.spdxVersion !== 'SPDX-2.3') wrong(files.sbom, 'it is no SPDX 2.3 document');
  const packages = sbom.packages ?? [];
  if (packages[0]?.checksums?.some(({ checksumValue }) => checksumValue === manifest.sha256) !== true)
    wrong(files.sbom, 'it is the SBOM of another image');
  if (packages.length < 1 + manifest.components.length) wrong(files.sbom, 'it does not name all components');
  const record = (await readJson(files.provenance)) as { predicateType?: string; subject?: { digest?: { sha256?: string } }[] };
  if (record.predicateType !== 'https://slsa.dev/provenance/v1') wrong(files.provenance, 'it is no SLSA provenance');
  if (record.subject?.[0]?.digest?.sha256 !== manifest.sha256) wrong(files.provenance, 'it is the build record of another image');
}

/** Checks an update payload as update_engine would, and that it holds the image. */
export async function checkUpdate(file: string, image: string, keys: readonly KeyObject[]): Promise<void> {
  const { sha256 } = await checkPayload(file, keys);
  if (sha256 !== image) wrong(file, 'the update payload holds another image');
}
