import { access, open, readFile } from 'node:fs/promises';
import { ManifestSchema, messageOf, selectTargets, sidecarPaths, UserError, type Format, type Manifest, type Target } from '@flatcar/core';
import * as v from 'valibot';

/** An image file with its manifest. */
export interface KnownImage {
  readonly file: string;
  readonly manifest: Manifest;
  readonly target: Target;
}

function parseManifest(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError(`invalid manifest: not JSON: ${messageOf(cause)}`, { where, next: 'fetch or build the image again', cause });
  }
}

function targetOf(name: string, where: string): Target {
  try {
    const [target] = selectTargets(name);
    if (target !== undefined) return target;
  } catch (cause) {
    if (!(cause instanceof UserError)) throw cause;
    throw new UserError(`the manifest names a target that is not known: ${cause.message}`, { where, next: cause.next ?? '', cause });
  }
  throw new UserError('the manifest names no target', { where });
}

/** Reads the manifest beside an image; without it nothing is known for sure of the image. */
export async function knownImage(file: string): Promise<KnownImage> {
  await access(file);
  const where = sidecarPaths(file).manifest;
  const text = await readFile(where, 'utf8').catch((cause: unknown) => {
    throw new UserError('the image has no manifest beside it', { where, next: 'keep an image and its sidecars together', cause });
  });
  const parsed = v.safeParse(ManifestSchema, parseManifest(text, where));
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw new UserError(`invalid manifest: ${v.getDotPath(issue) ?? 'the file'}: ${issue.message}`, {
      where,
      next: 'fetch or build the image again',
    });
  }
  return { file, manifest: parsed.output, target: targetOf(parsed.output.target, where) };
}

/** The format of an image file, by its first bytes. */
export async function formatOfFile(file: string): Promise<Format> {
  const handle = await open(file, 'r');
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
