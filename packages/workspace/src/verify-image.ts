import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hashFile, parseSums, readContent, UserError, verifyVerity } from '@flatcar/core/engine';
import { imageFormat, readImageFile } from './image-file.ts';

/**
 * Checks an image against the SHA256SUMS and the manifest beside it, reads its file system, and checks the verity hashes of a disk image.
 * Returns what was checked. Throws a UserError for the first check that fails.
 */
export async function verifyImage(file: string): Promise<string[]> {
  const { manifest } = await readImageFile(file);
  const sums = join(dirname(file), 'SHA256SUMS');
  const listed = parseSums(await readFile(sums, 'utf8').catch(() => ''), sums).get(basename(file));
  const sha256 = await hashFile(file);
  const next = 'fetch or build the image again';
  if (listed === undefined) throw new UserError('the image is not in SHA256SUMS', { where: file, next });
  if (listed !== sha256) throw new UserError(`SHA256SUMS lists ${listed}, the image has ${sha256}`, { where: file, next });
  if (manifest.sha256 !== sha256) throw new UserError('the manifest is for another image', { where: file, next });
  const format = await imageFormat(file);
  await readContent(file, format, manifest.architecture);
  const checks = ['sums, manifest, metadata'];
  if (format !== 'ddi') return checks;
  const roothash = await verifyVerity(file, manifest.architecture);
  if (roothash !== manifest.roothash)
    throw new UserError(`the roothash is ${roothash}, the manifest lists ${manifest.roothash}`, { where: file, next });
  return [...checks, 'verity roothash'];
}
