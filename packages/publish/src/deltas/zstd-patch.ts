// Patches between versions: one zstd frame that refers to another image.
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf, hashFile, type Store, type Tools } from '@flatcar/core/engine';
import { WrongDeltaError } from './wrong-delta.ts';

/** zstd refers back at most so far on nodes: 128 MiB, which is also the memory that it may take there besides the old image. */
const WINDOW_LOG = 27;
/**
 * zstd makes the window as large as the larger of the two images. Of images that do not fit, it would forget the old one halfway: such patches
 * are never small.
 */
const MOST_IMAGE = 2 ** WINDOW_LOG - 1;
/** One thread: more of them split the image, and their number would decide bytes. */
const FLAGS = ['--quiet', '--force', '--single-thread', `--long=${WINDOW_LOG}`];
/** docs/deltas.md has what other levels give and cost. */
const LEVEL = 15;
/** A level that takes a fortieth of the time. What it makes larger than this part of an image stays too large: squashfs, mostly. */
const PROBE = { level: 3, largestPart: 0.8 };
/** Name of the patch in the store; a result without it is a patch that was too large. */
const PATCH = 'patch';

/** True if zstd can make a patch between images of these sizes, in bytes. */
export const canPatch = (...sizes: readonly number[]): boolean => sizes.every((size) => size > 0 && size <= MOST_IMAGE);

/** Applies a patch to an image, and writes the result into a file. */
export async function applyPatch(tools: Tools, before: string, patch: string, out: string): Promise<void> {
  await tools.run('zstd', [...FLAGS, '--decompress', `--patch-from=${before}`, patch, '-o', out]);
}

/** An image on this machine. */
export interface ImageFile {
  readonly file: string;
  readonly sha256: string;
}

/** Writes a patch between two images into a file, and returns its size in bytes. */
async function writePatch(tools: Tools, level: number, before: string, after: string, out: string): Promise<number> {
  await tools.run('zstd', [...FLAGS, `-${level}`, `--patch-from=${before}`, after, '-o', out]);
  return (await stat(out)).size;
}

/**
 * Makes the patch that leads from an image to another one, checked by applying it. Returns its path in the store; undefined if it has `limit`
 * bytes or more. The store keeps it, so that a publish that was killed, or that another publisher stopped, does not make it again.
 */
export async function makePatch(
  { store, tools }: { readonly store: Store; readonly tools: Tools },
  before: ImageFile,
  after: ImageFile,
  limit: number,
): Promise<string | undefined> {
  const tool = (await tools.record('zstd')).map(({ sha256 }) => sha256);
  const how = { step: 'zstd patch', number: 2, flags: FLAGS, level: LEVEL, probe: PROBE, tool };
  const key = digestOf({ ...how, from: before.sha256, to: after.sha256, limit });
  const { dir } = await store.result('delta', key, async (fresh) => {
    const patch = join(fresh, PATCH);
    const { size } = await stat(after.file);
    const probed = await writePatch(tools, PROBE.level, before.file, after.file, patch);
    if (probed >= size * PROBE.largestPart || (await writePatch(tools, LEVEL, before.file, after.file, patch)) >= limit) return rm(patch);
    await store.withTemp(async (temp) => {
      const result = join(temp, 'result');
      await applyPatch(tools, before.file, patch, result);
      if ((await hashFile(result)) !== after.sha256) throw new WrongDeltaError(before.file, after.file);
    });
  });
  return (await readdir(dir)).includes(PATCH) ? join(dir, PATCH) : undefined;
}
