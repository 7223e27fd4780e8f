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

/** The Debian archive, opened once per run: its lists are long. */
export function archiveOf(context: UpstreamContext): Promise<Archive> {
  return once(context, 'archive', () => Promise.resolve(openArchive(context.store, context.report)));
}

/** The newest packages of a suite with its updates and security updates: what is pinned. Read once per run. */
export function newestPackages(suite: string, arch: Arch, context: UpstreamContext): ReturnType<Archive['newest']> {
  return once(context, `newest ${suite} ${arch}`, async () => (await archiveOf(context)).newest(suite, arch));
}
