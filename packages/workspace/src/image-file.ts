import { access, open } from 'node:fs/promises';
import { readManifest, targetOfImage, UserError, type Format, type Manifest, type Target } from '@flatcar/core/engine';

/** An image file with its manifest. */
export interface ImageFile {
  readonly file: string;
  readonly manifest: Manifest;
  /** The target that the manifest names; its release need not be in the catalogue. */
  readonly target: Target;
}

/** Reads the manifest beside an image. Throws a UserError if the manifest is missing or invalid. */
export async function readImageFile(file: string): Promise<ImageFile> {
  await access(file);
  const manifest = await readManifest(file);
  return { file, manifest, target: targetOfImage(manifest.target, manifest.format) };
}

/** The format of an image file, by its first bytes. */
export async function imageFormat(file: string): Promise<Format> {
  const handle = await open(file, 'r');
  try {
    const head = Buffer.alloc(520);
    await handle.read(head, 0, head.length, 0);
    if (head.toString('latin1', 0, 4) === 'hsqs') return 'squashfs';
    if (head.toString('latin1', 512, 520) === 'EFI PART') return 'ddi';
    throw new UserError('not an image: expected squashfs or a disk image', { where: file });
  } finally {
    await handle.close();
  }
}
