import { openStore, UsageError, type Environment, type Report, type Store } from '@flatcar/core/engine';
import type { Destination } from './destination.ts';
import { githubDestination } from './github-releases.ts';
import { localDestination } from './local.ts';
import { parsePlace } from './place.ts';
import { s3Destination } from './s3.ts';
import { remoteTree } from '../tree/http-source.ts';
import { localTree } from '../tree/local-tree.ts';
import type { Tree } from '../tree/tree.ts';

/** How to open a place. */
export interface OpenOptions {
  /** Option or argument that specified the place, for errors. */
  readonly flag?: string;
  readonly store?: Store;
  readonly report?: Report;
  readonly env?: Environment;
  readonly signal?: AbortSignal;
}

/** Opens a published tree for reading: a folder, a web server or a bucket. A registry contains copies of images, not a tree. */
export function openTree(
  where: string,
  store: Store = openStore(),
  { flag = 'the tree', report, env = process.env, signal }: Omit<OpenOptions, 'store'> = {},
): Tree {
  const { kind } = parsePlace(where, flag);
  if (kind === 'http') return remoteTree(where, store, report, signal);
  if (kind === 's3') return s3Destination(where, env, store, signal).tree(store, report);
  if (kind === 'oci')
    throw new UsageError(`'${where}' is a registry: it holds copies of images, not a tree that can be read`, {
      where: flag,
      next: 'name the tree that the registry was filled from: a folder, https://… or s3://…',
    });
  return localTree(where);
}

/** Opens a place for publishing: a folder or a bucket. With `assets` (`github:owner/name`), images go into releases of that repository. */
export function openDestination(where: string, options: OpenOptions & { readonly assets?: string | undefined } = {}): Destination {
  const { flag = '--tree', assets, store = openStore(), env = process.env, signal } = options;
  const { kind } = parsePlace(where, flag);
  if (kind === 'http')
    throw new UsageError(`'${where}' is a web server, and nothing is published through one`, {
      where: flag,
      next: 'name the folder or the bucket that it serves: /srv/extensions or s3://bucket/prefix; the URL is --base-url',
    });
  if (kind === 'oci')
    throw new UsageError(`'${where}' is a registry, which holds no tree`, {
      where: flag,
      next: 'publish into a folder or a bucket, then copy it: flatcar-ext mirror --tree TREE --to oci://registry/repository',
    });
  if (assets !== undefined && !/^github:[\w.-]+\/[\w.-]+$/.test(assets))
    throw new UsageError(`'${assets}' is not a place for assets`, { where: '--assets', next: 'write it as github:owner/repository' });
  const place = kind === 's3' ? s3Destination(where, env, store, signal) : localDestination(where);
  return assets === undefined ? place : githubDestination(place, assets.slice('github:'.length), env, signal);
}
