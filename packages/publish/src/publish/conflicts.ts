import { setTimeout as sleep } from 'node:timers/promises';
import type { Report } from '@flatcar/core/engine';
import { ConflictError } from '../destinations/destination.ts';

/** How often something begins again because another publisher was faster; each time at least one of them has got further. */
const ATTEMPTS = 30;

/** A pause of random length, so that those who met do not meet again: up to half a second at first, ten at last. */
const pauseAfter = (attempt: number): number => 100 + Math.random() * Math.min(10_000, 500 * 2 ** (attempt - 1));

/** Runs `attempt` (with its number, from 1) until it meets no other publisher. Throws the last ConflictError after some minutes. */
export async function untilNoConflict<T>(
  attempt: (count: number) => Promise<T>,
  { report, signal }: { readonly report?: Report | undefined; readonly signal?: AbortSignal | undefined },
): Promise<T> {
  for (let count = 1; ; count += 1) {
    try {
      return await attempt(count);
    } catch (error) {
      if (!(error instanceof ConflictError) || count === ATTEMPTS) throw error;
      report?.({ type: 'notice', text: `${error.message}: trying again` });
      await sleep(pauseAfter(count), undefined, signal === undefined ? {} : { signal });
    }
  }
}
