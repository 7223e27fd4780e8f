import { openStore, UsageError } from '@flatcar/core/engine';
import { KEYS, nodeConfig, openTree, readListed, readPublished, type NodeResult, type Trust } from '@flatcar/publish';

/** What a node gets, and where it is published. */
export interface NodeRequest extends Omit<Parameters<typeof nodeConfig>[0], 'published'> {
  /** Where the tree is read, if not at `baseUrl`. */
  readonly tree?: string;
  readonly trust: Trust;
}

/**
 * The config of a node, computed from the published index alone, with the serial number of that index. Throws a
 * UsageError for a base URL that is not a URL, and a UserError for a tree that does not exist or that the root of trust does not verify.
 */
export async function configureNode(request: NodeRequest): Promise<NodeResult & { readonly serial: number }> {
  const { baseUrl, tree, trust } = request;
  if (!/^https?:\/\/[^\s]+$/.test(baseUrl))
    throw new UsageError(`'${baseUrl}' is not a valid http(s) URL`, {
      where: '--base-url',
      next: 'pass the URL from which nodes fetch the published tree; --tree reads it elsewhere',
    });
  const source = openTree(tree ?? baseUrl, openStore(), { flag: tree === undefined ? '--base-url' : '--tree' });
  const published = await readPublished(source, trust);
  const names = published.index?.extensions.map(({ name }) => name) ?? [];
  const listed = published.index?.keys.find(({ path }) => path === KEYS.keyring);
  const keyring = listed === undefined ? Buffer.alloc(0) : await readListed(source, KEYS.keyring, listed.sha256);
  const result = await nodeConfig({ ...request, published: names }, (name) => published.extension(name), keyring);
  return { ...result, serial: published.index?.serial ?? 0 };
}
