import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  eachChunk,
  PARTITION_TYPES,
  parsePayload,
  readPartitions,
  timed,
  UserError,
  type Arch,
  type Format,
  type Payload,
} from '@flatcar/core/engine';
import { payloadPath } from './layout.ts';
import type { ExtensionIndex } from './schema.ts';
import { readListed } from './read-listed.ts';
import type { Tree } from './tree.ts';

/** Copies the root partition of a disk image into a file. */
async function extractRoot(image: string, arch: Arch, out: string): Promise<void> {
  const root = (await readPartitions(image)).find(({ type }) => type === PARTITION_TYPES[arch].root);
  if (root === undefined) throw new UserError(`the disk image has no root partition for ${arch}`, { where: image });
  const [source, target] = [await open(image, 'r'), await open(out, 'w')];
  try {
    const copied = await eachChunk(source, { start: root.offset, end: root.offset + root.size }, (chunk) => target.writeFile(chunk));
    if (copied < root.size) throw new UserError('the disk image is truncated', { where: image });
  } finally {
    await source.close();
    await target.close();
  }
}

/**
 * Restores a published payload from its record and any image that was bound from it, so that `bind` can make an image for one more release
 * without a build. The file has the release file of that image, which binding rewrites. `dir` is for extracted files.
 */
export async function restorePayload(
  tree: Tree,
  index: ExtensionIndex,
  about: { version: string; arch: Arch; format: Format },
  dir: string,
): Promise<{ payload: Payload; file: string }> {
  const { version, arch, format } = about;
  const found = index.versions.find((one) => one.version === version);
  const published = found?.payloads[`${arch} ${format}`];
  const image = found?.images.find((one) => one.architecture === arch && one.format === format);
  if (published === undefined || image === undefined)
    throw new UserError(`${index.name} ${version} is not published for ${arch} as ${format}`, { where: tree.where, next: 'build it' });
  const path = payloadPath(index.name, published.key);
  const bytes = await readListed(tree, path, published.record);
  const payload = parsePayload(bytes.toString(), `${tree.where}/${path}`);
  if (payload.key !== published.key || payload.arch !== arch || payload.format !== format)
    throw new UserError('the record belongs to another payload', { where: `${tree.where}/${path}` });
  const local = await timed('verify the published image', () => tree.file(image.path, image));
  if (format === 'squashfs') return { payload, file: local };
  const file = join(dir, `${published.key}.${format}`);
  await writeFile(file, '');
  await timed('take the payload out', () => extractRoot(local, arch, file));
  return { payload, file };
}
