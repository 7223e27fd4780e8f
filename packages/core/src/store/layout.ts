import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { envOf, homeOf, isSudo, type Environment } from '../util/env.ts';
import { UserError } from '../util/errors.ts';

/**
 * The cache folder: FLATCAR_EXT_CACHE, else `flatcar-ext` in the user's cache folder (XDG base directories); under sudo, in root's own.
 * Throws a UserError if no home folder is known, and for paths that programs started from the store cannot handle.
 */
export function cacheRoot(env: Environment = process.env): string {
  const own = envOf('FLATCAR_EXT_CACHE', env);
  const xdg = envOf('XDG_CACHE_HOME', env);
  const home = homeOf(env);
  const user = xdg?.startsWith('/') === true && !isSudo(env) ? xdg : home === undefined ? undefined : join(home, '.cache');
  if (own === undefined && user === undefined)
    throw new UserError('there is no home folder to keep the store in: HOME is not set, and the user database has no entry for this user', {
      next: 'set FLATCAR_EXT_CACHE to a folder for downloads, tools and build results',
    });
  const root = own === undefined ? join(user ?? '/', 'flatcar-ext') : resolve(own);
  // glibc's library path is split at ':' and ';', systemd's definitions treat '%' as a specifier, and lists are read by lines.
  const wrong = /[:;%\n\r]/.exec(root)?.[0];
  if (wrong !== undefined)
    throw new UserError(`the path of the store must not contain ${JSON.stringify(wrong)}: tools are started from it`, {
      where: root,
      next: 'set FLATCAR_EXT_CACHE to another folder',
    });
  return root;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._+-]*$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** Whether a text is a digest that a blob may have as its name. */
export const isSha256 = (text: string): boolean => SHA256.test(text);

function checked(pattern: RegExp, text: string): string {
  if (!pattern.test(text)) throw new Error(`'${text}' is not a valid name of a store entry`);
  return text;
}

/** Undefined for an error about a missing path; throws all others. */
export const missing = (error: unknown): undefined => {
  if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
  throw error;
};

/** Names in a folder; none if there is no such folder. */
export async function namesIn(dir: string): Promise<string[]> {
  return (await readdir(dir).catch(missing)) ?? [];
}

/** Path of the list that is stored beside a result: a result without a list is incomplete. */
export const listOf = (result: string): string => `${result}.list`;

/** Where a store keeps what. */
export class StoreLayout {
  readonly root: string;
  readonly temp: string;
  readonly blobs: string;
  readonly partials: string;
  readonly results: string;
  readonly locks: string;
  /** The lock that every process holds while it uses the store. */
  readonly inUse: string;

  constructor(root: string) {
    this.root = root;
    this.temp = join(root, 'temp');
    this.blobs = join(root, 'blobs');
    this.partials = join(root, 'partial');
    this.results = join(root, 'results');
    this.locks = join(root, 'locks');
    this.inUse = join(root, 'in-use.lock');
  }

  lock(name: string): string {
    return join(this.locks, encodeURIComponent(name));
  }

  blob(sha256: string): string {
    return join(this.blobs, sha256.slice(0, 2), checked(SHA256, sha256));
  }

  partial(sha256: string): string {
    return join(this.partials, checked(SHA256, sha256));
  }

  result(kind: string, key: string): string {
    return join(this.results, checked(NAME, kind), checked(NAME, key));
  }

  /** Names of the results of a kind, without their lists. */
  async resultsOf(kind: string): Promise<string[]> {
    return (await namesIn(join(this.results, kind))).filter((name) => NAME.test(name) && !name.endsWith('.list'));
  }
}
