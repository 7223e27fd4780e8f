import { openArchive, type Arch, type Archive, type Report, type Store, type Toolchains, type Tools } from '@flatcar/core';
import type { Asking } from './http.ts';

/** What everything that asks upstream is given. */
export interface UpstreamContext extends Asking {
  readonly store: Store;
  readonly tools: Tools;
  readonly toolchains: Toolchains;
  readonly report: Report;
  /** Answers of this run: what several files need is asked for once. */
  readonly answers: Map<string, Promise<unknown>>;
}

/** Asks once per run. */
export function once<T>(context: UpstreamContext, key: string, fn: () => Promise<T>): Promise<T> {
  const known = context.answers.get(key) as Promise<T> | undefined;
  if (known !== undefined) return known;
  const answer = fn();
  context.answers.set(key, answer);
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
  return once(context, 'archive', () => Promise.resolve(openArchive(context.store, countedPackages(context.report))));
}

/** The newest packages of a suite with its updates and security updates: what is pinned. Read once per run. */
export function newestPackages(suite: string, arch: Arch, context: UpstreamContext): ReturnType<Archive['newest']> {
  return once(context, `newest ${suite} ${arch}`, async () => (await archiveOf(context)).newest(suite, arch));
}
