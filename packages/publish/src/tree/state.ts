import { UserError } from '@flatcar/core/engine';
import { sha256Of } from './digest.ts';
import { readListed } from './read-listed.ts';
import type { Source } from './tree.ts';
import type { TreeMetadata } from '../metadata/metadata.ts';
import { extensionIndexPath, metadataPath, rootPath, targetPath } from './layout.ts';
import { parseExtensionIndex, parseIndex, parsePackages, type ExtensionIndex, type Index, type UpdatePackage } from './schema.ts';
import { readTrusted, type Trust } from './trusted.ts';

const TIMESTAMP = metadataPath('timestamp');

/** A published tree was expected, and there is no metadata. */
export class NoTreeError extends UserError {
  constructor(source: Source, next = 'check the name; for a tree that is meant to be empty until its first publish, pass --first-publish') {
    const missing = [TIMESTAMP, rootPath(1)].map((path) => ({ path, why: source.absence?.(path) })).find(({ why }) => why !== undefined);
    super(`nothing is published here: ${missing === undefined ? `there is no ${TIMESTAMP}` : `${missing.why} for ${missing.path}`}`, {
      where: source.where,
      next,
      code: 'no-tree',
    });
    this.name = 'NoTreeError';
  }
}

const EMPTY: Published = { index: undefined, metadata: undefined, extension: async () => undefined, packages: async () => [] };

/** A published tree as its signed index describes it. Indexes of extensions are read on demand. */
export interface Published {
  /** Undefined for an empty tree. */
  readonly index: Index | undefined;
  /** The verified metadata that vouches for the index. */
  readonly metadata?: TreeMetadata | undefined;
  extension(name: string): Promise<ExtensionIndex | undefined>;
  packages(): Promise<readonly UpdatePackage[]>;
}

/**
 * Reads a published tree, verified from the root of trust down (see readTrusted). A tree without metadata is a NoTreeError unless
 * `firstPublish`.
 */
export async function readPublished(
  source: Source,
  trust: Trust,
  { firstPublish = false }: { firstPublish?: boolean } = {},
): Promise<Published> {
  const { where } = source;
  const found = await readTrusted(source, trust);
  if (found === undefined) {
    if (firstPublish) return EMPTY;
    throw new NoTreeError(source);
  }
  const { metadata } = found;
  const index = parseIndex(found.index.toString(), `${where}/${targetPath(sha256Of(found.index))}`);
  return {
    index,
    metadata,
    async extension(name) {
      const listed = index.extensions.find((one) => one.name === name);
      if (listed === undefined) return undefined;
      if (listed.path !== extensionIndexPath(name, listed.sha256))
        throw new UserError(`invalid index: the index of ${name} has an unexpected path`, { where });
      const found = parseExtensionIndex((await readListed(source, listed.path, listed.sha256)).toString(), `${where}/${listed.path}`);
      if (found.name !== name)
        throw new UserError(`this is the index of '${found.name}', not of '${name}'`, { where: `${where}/${listed.path}` });
      return found;
    },
    async packages() {
      return parsePackages(
        (await readListed(source, index.packages.path, index.packages.sha256)).toString(),
        `${where}/${index.packages.path}`,
      ).packages;
    },
  };
}
