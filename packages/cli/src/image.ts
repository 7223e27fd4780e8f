import { open, readFile } from 'node:fs/promises';
import { ManifestSchema, selectTargets, sidecarPaths, UserError, type Format, type Manifest, type Target } from '@flatcar/core';
import * as v from 'valibot';

/** An image file with its manifest. */
export interface KnownImage {
  readonly file: string;
  readonly manifest: Manifest;
  readonly target: Target;
}

/** Reads the manifest beside an image; without it nothing is known for sure of the image. */
export async function knownImage(file: string): Promise<KnownImage> {
  const where = sidecarPaths(file).manifest;
  const text = await readFile(where, 'utf8').catch((cause: unknown) => {
    throw new UserError('the image has no manifest beside it', { where, next: 'keep an image and its sidecars together', cause });
  });
  const parsed = v.safeParse(ManifestSchema, JSON.parse(text));
  if (!parsed.success) throw new UserError('the manifest has another shape', { where });
  const [target] = selectTargets(parsed.output.target);
  if (target === undefined) throw new UserError('the manifest names no target', { where });
  return { file, manifest: parsed.output, target };
}

/** The format of an image file, by its first bytes. */
export async function formatOfFile(file: string): Promise<Format> {
  const handle = await open(file, 'r').catch((cause: unknown) => {
    throw new UserError('the image cannot be read', { where: file, cause });
  });
  try {
    const head = Buffer.alloc(520);
    await handle.read(head, 0, head.length, 0);
    if (head.toString('latin1', 0, 4) === 'hsqs') return 'squashfs';
    if (head.toString('latin1', 512, 520) === 'EFI PART') return 'ddi';
    throw new UserError('this is neither a squashfs nor a disk image', { where: file });
  } finally {
    await handle.close();
  }
}
