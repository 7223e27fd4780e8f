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

/** Lists of versions: the longest have some megabytes a page. */
export const MOST_LISTING = 64 << 20;
/** Checksums, signatures and bundles: what is longer is something else. */
export const MOST_DOCUMENT = 8 << 20;
/** An archive or a program of upstream's: GitHub takes no assets above 2 GiB. */
export const MOST_FILE = 4 * 2 ** 30;

/** How upstream is asked. */
export type HttpSettings = Pick<HttpOptions, 'mirror' | 'signal' | 'pause'>;

/** What everything that asks upstream is given. */
export interface UpstreamContext extends HttpSettings {
  readonly store: Store;
  readonly tools: Tools;
  readonly toolchains: Toolchains;
  readonly report: Report;
  /** Results of this run: what several files need is fetched once. */
  readonly cache: Map<string, Promise<unknown>>;
}

/** Does something once per run. */
export function memoize<T>(context: UpstreamContext, key: string, fn: () => Promise<T>): Promise<T> {
  const known = context.cache.get(key) as Promise<T> | undefined;
  if (known !== undefined) return known;
  const answer = fn();
  context.cache.set(key, answer);
  return answer;
}

/** Packages come by the dozen: each is a line that the next one takes the place of, with a count, and no step of its own. */
export function countedPackages(report: Report): Report {
  let count = 0;
  return (event) => {
    const name = event.type === 'step' ? /^fetching \S*\/([^/]+)\.deb$/.exec(event.text)?.[1] : undefined;
    if (name === undefined) return report(event);
    count += 1;
    report({ type: 'log', what: 'packages', line: `package ${count}: ${decodeURIComponent(name)}` });
  };
}

/** The Debian archive, opened once per run: its lists are long. */
export function archiveOf(context: UpstreamContext): Promise<Archive> {
  return memoize(context, 'archive', () => Promise.resolve(openArchive(context.store, countedPackages(context.report))));
}

/** The newest packages of a suite with its updates and security updates: what is pinned. Read once per run. */
export function newestPackages(suite: string, arch: Arch, context: UpstreamContext): ReturnType<Archive['newest']> {
  return memoize(context, `newest ${suite} ${arch}`, async () => (await archiveOf(context)).newest(suite, arch));
}
