import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PARTITION_TYPES, parsePayload, readPartitions, UserError, type Arch, type Format, type Payload } from '@flatcar/core/engine';
import { payloadPath } from './layout.ts';
import type { ExtensionIndex } from './schema.ts';
import { sha256Of } from './state.ts';
import type { Tree } from './tree.ts';

/** Copies the root partition of a disk image into a file of its own. */
async function extractRoot(image: string, arch: Arch, out: string): Promise<void> {
  const root = (await readPartitions(image)).find(({ type }) => type === PARTITION_TYPES[arch].root);
  if (root === undefined) throw new UserError(`the disk image has no root partition for ${arch}`, { where: image });
  const [source, target] = [await open(image, 'r'), await open(out, 'w')];
  try {
    const chunk = Buffer.allocUnsafe(1 << 20);
    for (let at = 0; at < root.size; at += chunk.length) {
      const { bytesRead } = await source.read(chunk, 0, Math.min(chunk.length, root.size - at), root.offset + at);
      if (bytesRead === 0) throw new UserError('the disk image is cut off', { where: image });
      await target.writeFile(chunk.subarray(0, bytesRead));
    }
  } finally {
    await source.close();
    await target.close();
  }
}

/**
 * A published payload, out of its record and any image that was bound from it: what `bind` needs for one more release, without building
 * anything. Its release file is another's, which binding rewrites. `dir` takes what has to be extracted.
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
  const bytes = await tree.read(path);
  if (bytes === undefined || sha256Of(bytes) !== published.record)
    throw new UserError("the payload's record is not the one that the signed index lists", { where: `${tree.where}/${path}` });
  const payload = parsePayload(bytes.toString(), `${tree.where}/${path}`);
  if (payload.key !== published.key || payload.arch !== arch || payload.format !== format)
    throw new UserError("the payload's record is for another payload", { where: `${tree.where}/${path}` });
  const local = await tree.file(image.path, image);
  if (format === 'squashfs') return { payload, file: local };
  const file = join(dir, `${published.key}.${format}`);
  await writeFile(file, '');
  await extractRoot(local, arch, file);
  return { payload, file };
}
