import {
  differenceBetween,
  hostArch,
  parsePayload,
  UserError,
  type Arch,
  type Difference,
  type ExtensionRef,
  type ImageContent,
} from '@flatcar/core/engine';
import { payloadPath, readListed, selectVersions, type ExtensionIndex, type PublishedImage, type PublishedVersion } from '@flatcar/publish';
import type { OpenedTree } from '../open-published.ts';

/** The images to compare: by default for this machine's architecture, and for the first target that both versions have. */
export interface CompareOptions {
  readonly arch?: Arch;
  /** `portable` or a release number. */
  readonly target?: string;
}

/** An image of a tree, with what its index says of it. */
interface Chosen {
  readonly index: ExtensionIndex;
  readonly version: PublishedVersion;
  readonly image: PublishedImage;
}

async function versionOf(tree: OpenedTree, { name, version }: ExtensionRef): Promise<{ index: ExtensionIndex; version: PublishedVersion }> {
  const index = await tree.extension(name);
  const { where } = tree.tree;
  if (index === undefined)
    throw new UserError(`'${name}' is not published here`, {
      where,
      next: `published extensions: ${tree.index.extensions.map((one) => one.name).join(', ')}`,
    });
  // A withdrawn version is compared only if it is specified in full.
  const selected = selectVersions(index.versions, version);
  const found = selected.find(({ withdrawn }) => withdrawn === undefined) ?? (version === undefined ? undefined : selected[0]);
  if (found === undefined)
    throw new UserError(`${name}${version === undefined ? '' : ` ${version}`} is not published here`, {
      where,
      next: `published versions: ${index.versions.map((one) => one.version).join(', ')}`,
    });
  return { index, version: found };
}

/** The content of a published image, from the record of its payload: nothing is downloaded but the record. */
async function contentOf({ tree }: OpenedTree, { index, version, image }: Chosen): Promise<ImageContent> {
  const listed = version.payloads[`${image.architecture} ${image.format}`];
  if (listed === undefined)
    throw new UserError(`the index lists no payload of ${index.name} ${version.version}`, {
      where: tree.where,
      next: 'fetch both images, and compare them',
    });
  const path = payloadPath(index.name, listed.key);
  const {
    tree: files,
    components,
    ...payload
  } = parsePayload((await readListed(tree, path, listed.record)).toString(), `${tree.where}/${path}`);
  return { ...payload, components, size: image.size, entries: files.entries };
}

/**
 * Compares two versions in a published tree, or two extensions: `kubernetes@1.36.4` and `kubernetes@1.37.0`. Both images have the same architecture
 * and target. Throws a UserError if one of them is not published.
 */
export async function comparePublished(
  tree: OpenedTree,
  before: ExtensionRef,
  after: ExtensionRef,
  { arch = hostArch(), target }: CompareOptions = {},
): Promise<Difference> {
  const [one, other] = [await versionOf(tree, before), await versionOf(tree, after)];
  const imagesOf = ({ version }: { version: PublishedVersion }): PublishedImage[] =>
    version.images.filter((image) => image.architecture === arch && (target === undefined || image.target === target));
  const pairs = imagesOf(one).flatMap((image) => {
    const there = imagesOf(other).find((candidate) => candidate.target === image.target && candidate.format === image.format);
    return there === undefined ? [] : [{ image, there }];
  });
  const pair = pairs.find(({ image }) => image.target === 'portable') ?? pairs.at(-1);
  if (pair === undefined)
    throw new UserError(
      `${one.index.name} ${one.version.version} and ${other.index.name} ${other.version.version} have no image for the same target`,
      { where: tree.tree.where, next: `specify --release or --arch; this is for ${target ?? 'any target'} on ${arch}` },
    );
  return differenceBetween(await contentOf(tree, { ...one, image: pair.image }), await contentOf(tree, { ...other, image: pair.there }));
}
