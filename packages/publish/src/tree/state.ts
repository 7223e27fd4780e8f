import { UserError } from '@flatcar/core/engine';
import type { PublicKey } from 'openpgp';
import { sha256Of } from './digest.ts';
import { readListed } from './read-listed.ts';
import type { Source } from './tree.ts';
import { extensionIndexPath, INDEX, indexSignaturePath, SIGNATURE } from './layout.ts';
import { checkSignatures } from '../keys/openpgp.ts';
import { parseExtensionIndex, parseIndex, parsePackages, type ExtensionIndex, type Index, type UpdatePackage } from './schema.ts';

/** A published tree was expected, and there is no index. */
export class NoTreeError extends UserError {
  constructor(source: Source, next = 'check the name; for a tree that is meant to be empty until its first publish, pass --first-publish') {
    const why = source.absence?.(INDEX);
    super(`nothing is published here: ${why === undefined ? `there is no ${INDEX}` : `${why} for ${INDEX}`}`, {
      where: source.where,
      next,
      code: 'no-tree',
    });
    this.name = 'NoTreeError';
  }
}

/** An index without a good signature: made by somebody else, tampered with, or (in a bucket) being replaced. */
export class SignatureError extends UserError {
  constructor(where: string, problems: readonly string[]) {
    super(`the index has no good signature by a known key${problems.length === 0 ? '' : `: ${problems.join('; ')}`}`, {
      where,
      next: "use the publisher's keys; while the tree is being published, try again",
      code: 'bad-signature',
    });
    this.name = 'SignatureError';
  }
}

const EMPTY: Published = { index: undefined, extension: async () => undefined, packages: async () => [] };

/** A published tree as its signed index describes it. Indexes of extensions are read on demand. */
export interface Published {
  /** Undefined for an empty tree. */
  readonly index: Index | undefined;
  extension(name: string): Promise<ExtensionIndex | undefined>;
  packages(): Promise<readonly UpdatePackage[]>;
}

/**
 * Reads a published tree. With keys, one of them must have signed the index; without keys, the index is not verified: only for displaying local
 * trees. A tree without an index is a NoTreeError unless `firstPublish`.
 */
export async function readPublished(
  source: Source,
  keys: readonly PublicKey[] | undefined,
  { firstPublish = false }: { firstPublish?: boolean } = {},
): Promise<Published> {
  const { where } = source;
  const bytes = await source.read(INDEX);
  if (bytes === undefined) {
    if (firstPublish) return EMPTY;
    throw new NoTreeError(source);
  }
  if (keys !== undefined) {
    const { good, problems } = await checkSignatures(bytes, (await source.read(`${INDEX}${SIGNATURE}`)) ?? Buffer.alloc(0), keys);
    if (good.size === 0) {
      const own = await source.read(indexSignaturePath(sha256Of(bytes)));
      if (own === undefined || (await checkSignatures(bytes, own, keys)).good.size === 0)
        throw new SignatureError(`${where}/${INDEX}`, problems);
    }
  }
  const index = parseIndex(bytes.toString(), `${where}/${INDEX}`);
  return {
    index,
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
