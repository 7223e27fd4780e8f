import { openStore, UsageError } from '@flatcar/core/engine';
import {
  KEYS,
  keyringOf,
  nodeConfig,
  NoTreeError,
  openTree,
  readKeyring,
  readKeyringFile,
  readPublished,
  type NodeResult,
  type PublishKeys,
  type Source,
} from '@flatcar/publish';

/** What a node gets, and where it is published. */
export interface NodeRequest extends Omit<Parameters<typeof nodeConfig>[0], 'published'> {
  /** Where the tree is read, if not at `baseUrl`. */
  readonly tree?: string;
  /** File of public keys that verify the tree; its own keyring by default. */
  readonly keyring?: string;
}

const NOT_VERIFIED = 'pass a keyring that you have verified: --keyring FILE';

/** The keys that verify a tree: those of a file, else those that the tree serves. */
async function keysOf(source: Source, keyring: string | undefined): Promise<PublishKeys['trusted']> {
  if (keyring !== undefined) return readKeyringFile(keyring);
  const own = await source.read(KEYS.keyring);
  if (own === undefined) throw new NoTreeError(source, 'check --base-url or --tree');
  return readKeyring(own, `${source.where}/${KEYS.keyring}`);
}

/**
 * The config of a node, computed from the published index alone, with the serial number of that index. A notice says if nobody has verified the
 * keys. Throws a UsageError for a base URL that is not a URL, and a UserError for a tree that does not exist or is not signed by the keys.
 */
export async function configureNode(request: NodeRequest): Promise<NodeResult & { readonly serial: number }> {
  const { baseUrl, tree, keyring, minimal } = request;
  if (!/^https?:\/\/[^\s]+$/.test(baseUrl))
    throw new UsageError(`'${baseUrl}' is not a valid http(s) URL`, {
      where: '--base-url',
      next: 'pass the URL from which nodes fetch the published tree; --tree reads it elsewhere',
    });
  const source = openTree(tree ?? baseUrl, openStore(), { flag: tree === undefined ? '--base-url' : '--tree' });
  const keys = await keysOf(source, keyring);
  const published = await readPublished(source, keys);
  const names = published.index?.extensions.map(({ name }) => name) ?? [];
  const result = await nodeConfig({ ...request, published: names }, (name) => published.extension(name), keyringOf(keys));
  const unverified = minimal
    ? `the index was verified with the keyring of the tree itself; ${NOT_VERIFIED}`
    : `the node gets the keyring of the tree itself; ${NOT_VERIFIED}`;
  const notices = keyring === undefined ? [...result.notices, unverified] : result.notices;
  return { ...result, notices, serial: published.index?.serial ?? 0 };
}
