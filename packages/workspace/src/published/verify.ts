import { readManifest, UserError } from '@flatcar/core/engine';
import type { OpenedTree } from '../open-published.ts';

/**
 * Checks that an image is one that a tree publishes, by the digest in its verified index. Returns what was checked. Throws a UserError for an
 * image that the tree does not publish, or that was withdrawn. The image itself must have been compared with its manifest before.
 */
export async function verifyPublished(image: string, opened: OpenedTree): Promise<string> {
  const { tree, index } = opened;
  const { name, version, target, architecture, sha256 } = await readManifest(image);
  const found = (await opened.extension(name))?.versions.find((one) => one.version === version);
  const published = found?.images.find((one) => one.target === target && one.architecture === architecture);
  const what = `${name} ${version} for ${target} on ${architecture}`;
  if (published === undefined)
    throw new UserError(`${what} is not published`, { where: tree.where, next: `list what is: flatcar-ext show ${name} --tree TREE` });
  if (published.sha256 !== sha256)
    throw new UserError('the image is not the published one: its sha256 differs', {
      where: image,
      next: `do not use it; fetch the published one: flatcar-ext fetch ${name}@${version}`,
    });
  if (found?.withdrawn !== undefined)
    throw new UserError(`${what} was withdrawn: ${found.withdrawn.reason}`, { where: image, next: `use ${found.withdrawn.by}` });
  return `published (index ${index.serial} of ${tree.where})`;
}
