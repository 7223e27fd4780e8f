import {
  openArchive,
  type Arch,
  type Archive,
  type HttpOptions,
  type Report,
  type Store,
  type Toolchains,
  type Tools,
} from '@flatcar/core/engine';

/** Largest page of a list of versions, in bytes. */
export const MOST_LISTING = 64 << 20;
/** Largest checksum file, signature or bundle, in bytes. */
export const MOST_DOCUMENT = 8 << 20;
/** Largest archive or program of an upstream, in bytes: GitHub's limit for an asset is 2 GiB. */
export const MOST_FILE = 4 * 2 ** 30;

/** How requests to upstream are sent. */
export type HttpSettings = Pick<HttpOptions, 'mirror' | 'signal' | 'pause'>;

/** What every function that talks to an upstream needs. */
export interface UpstreamContext extends HttpSettings {
  readonly store: Store;
  readonly tools: Tools;
  readonly toolchains: Toolchains;
  readonly report: Report;
  /** Results of this run, by key: see memoize. */
  readonly cache: Map<string, Promise<unknown>>;
}

/** Runs `fn` once per run and key; later calls get the first result. */
export function memoize<T>(context: UpstreamContext, key: string, fn: () => Promise<T>): Promise<T> {
  const known = context.cache.get(key) as Promise<T> | undefined;
  if (known !== undefined) return known;
  const result = fn();
  context.cache.set(key, result);
  return result;
}

/** The Debian archive, opened once per run. */
export function archiveOf(context: UpstreamContext): Promise<Archive> {
  return memoize(context, 'archive', () => Promise.resolve(openArchive(context.store, context.report)));
}

/** The newest packages of a suite, its updates and its security updates, which is what `pin` takes. Read once per run. */
export function newestPackages(suite: string, arch: Arch, context: UpstreamContext): ReturnType<Archive['newest']> {
  return memoize(context, `newest ${suite} ${arch}`, async () => (await archiveOf(context)).newest(suite, arch));
}
