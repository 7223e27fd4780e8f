import { constants } from 'node:fs';
import { copyFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  fsync,
  hashFile,
  makePublic,
  PUBLIC_FILE,
  replaceFile,
  sidecarPaths,
  timed,
  UserError,
  writeAtomic,
  type Payload,
} from '@flatcar/core/engine';
import { checkEvidence, checkImage } from './check.ts';
import type { FileAbout } from '../tree/tree.ts';
import type { Input } from './inputs.ts';
import { imagePath, payloadPath } from '../tree/layout.ts';
import type { Evidence } from './add-images.ts';
import { sha256Of } from '../tree/digest.ts';

/** A file in the staging folder, and its path in the tree. */
export interface Staged extends FileAbout {
  readonly from: string;
  readonly path: string;
}

/** One image, staged with its evidence. */
export interface StagedImage {
  readonly input: Input;
  readonly image: Staged;
  readonly sidecars: readonly Staged[];
  readonly evidence: Evidence;
}

/** Copies a file into the staging folder, named by its digest. An existing file is reused if its digest matches. */
export async function stageFile(staging: string, file: string, sha256: string): Promise<string> {
  const staged = join(staging, sha256);
  if ((await hashFile(staged).catch(() => undefined)) !== sha256)
    await replaceFile(staged, async (temporary) => {
      await copyFile(file, temporary, constants.COPYFILE_FICLONE);
      await fsync(temporary);
    });
  // A copy has the mode of its source, reduced by a strict umask.
  await makePublic(staged);
  return staged;
}

/** Writes a text into the staging folder, named by its digest. */
export const stageText = (staging: string, path: string, text: string): Promise<Staged> => stageBytes(staging, path, Buffer.from(text));

/** Writes bytes into the staging folder, named by their digest. */
export async function stageBytes(staging: string, path: string, bytes: Buffer): Promise<Staged> {
  const sha256 = sha256Of(bytes);
  const from = join(staging, sha256);
  await writeAtomic(from, bytes, PUBLIC_FILE);
  return { from, path, sha256, size: bytes.length };
}

/** Copies an image into the staging folder with its sidecars, and with its payload's record unless the record is published. */
async function copyImage(staging: string, input: Input, payload: Payload | undefined): Promise<StagedImage> {
  const { manifest, sidecars } = input;
  const path = imagePath(manifest);
  const image = { from: await stageFile(staging, input.file, manifest.sha256), path, sha256: manifest.sha256, size: manifest.size };
  const stage = async (file: string, as: string): Promise<Staged> => {
    const sha256 = await hashFile(file).catch((cause: unknown) => {
      throw new UserError('a sidecar of the image is missing', {
        where: file,
        cause,
        next: 'build the image again; nothing was published',
      });
    });
    const from = await stageFile(staging, file, sha256);
    return { from, path: as, sha256, size: (await stat(from)).size };
  };
  const paths = sidecarPaths(path);
  const manifestFile = await stage(sidecars.manifest, paths.manifest);
  const sbom = await stage(sidecars.sbom, paths.sbom);
  const provenance = await stage(sidecars.provenance, paths.provenance);
  // Without the path of the payload, which differs from machine to machine.
  const record =
    payload === undefined
      ? undefined
      : await stageText(staging, payloadPath(manifest.name, manifest.payload), `${JSON.stringify({ ...payload, file: '' })}\n`);
  return {
    input,
    image,
    sidecars: [manifestFile, sbom, provenance, record].filter((one) => one !== undefined),
    evidence: { manifest: manifestFile.sha256, sbom: sbom.sha256, provenance: provenance.sha256, record: record?.sha256 ?? '' },
  };
}

/** Checks a staged image as a client would. */
async function checkStaged({ input, image, sidecars }: StagedImage): Promise<void> {
  await checkImage({ file: image.from, where: input.file }, input.manifest);
  const [manifest, sbom, provenance] = sidecars;
  if (manifest === undefined || sbom === undefined || provenance === undefined) throw new Error('an image has three sidecars');
  await checkEvidence(
    { sbom: { file: sbom.from, where: input.sidecars.sbom }, provenance: { file: provenance.from, where: input.sidecars.provenance } },
    input.manifest,
  );
  for (const { from, sha256 } of sidecars)
    if ((await hashFile(from)) !== sha256)
      throw new UserError('a staged sidecar changed while it was checked', { where: from, next: 'run publish again' });
}

/** Stages an image with its sidecars and checks them. `payload` is its payload's record; undefined if the record is published. */
export async function stageImage(staging: string, input: Input, payload: Payload | undefined): Promise<StagedImage> {
  const staged = await timed('stage', () => copyImage(staging, input, payload));
  await timed('check', () => checkStaged(staged));
  return staged;
}
