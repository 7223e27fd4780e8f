import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, type Report } from '@flatcar/core/engine';

/** Attempts while other publishers are faster. In each round at least one publisher makes progress. */
const ATTEMPTS = 30;

/** A random pause in milliseconds, so that publishers do not collide again: at first up to half a second, later up to ten. */
const pauseAfter = (attempt: number): number => 100 + Math.random() * Math.min(10_000, 500 * 2 ** (attempt - 1));

/** Runs `attempt` with its number, from 1, until it throws no conflict. Throws the last one after some minutes. */
export async function untilNoConflict<T>(
  attempt: (count: number) => Promise<T>,
  { report, signal }: { readonly report?: Report | undefined; readonly signal?: AbortSignal | undefined },
): Promise<T> {
  for (let count = 1; ; count += 1) {
    try {
      return await attempt(count);
    } catch (error) {
      if (!hasCode(error, 'conflict') || count === ATTEMPTS) throw error;
      report?.({ type: 'notice', text: `${error.message}: trying again` });
      await sleep(pauseAfter(count), undefined, { signal });
    }
  }
}
