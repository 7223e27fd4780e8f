import { setTimeout as sleep } from 'node:timers/promises';
import { RateLimitError, RetryableError } from './errors.ts';

/** How often and how long a request is repeated. */
export interface RetryPolicy {
  /** Attempts in all. */
  readonly attempts: number;
  /** First pause between attempts in milliseconds, doubled each time up to 30 s, and varied by a quarter. */
  readonly pause: number;
  /** The sum of all pauses in milliseconds, including those that the server requests. */
  readonly longestWait: number;
  readonly signal: AbortSignal | undefined;
  /** URL and advice for the error if the server requests a longer pause. */
  readonly limited: { readonly where: string; readonly next: string };
}

const LONGEST_PAUSE = 30_000;

/**
 * Runs `attempt` until it succeeds or fails with anything but a RetryableError. Throws the last failure when no attempt or no time for a pause is
 * left. `last` is true for the last attempt.
 */
export async function retrying<T>(attempt: (last: boolean) => Promise<T>, policy: RetryPolicy): Promise<T> {
  const { signal } = policy;
  let { pause } = policy;
  let waited = 0;
  for (let count = 1; ; count += 1) {
    try {
      signal?.throwIfAborted();
      return await attempt(count >= policy.attempts);
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof RetryableError)) throw error;
      const { failure, after } = error;
      const wait = after ?? pause * (0.75 + Math.random() / 2);
      // A name that does not resolve or a port that is closed does not change within seconds.
      const isOver = count >= policy.attempts || (failure.code === 'unreachable' && count >= 2) || waited + wait > policy.longestWait;
      if (isOver && after === undefined) throw failure;
      if (isOver) {
        const { host } = new URL(policy.limited.where);
        throw new RateLimitError(new Date(Date.now() + wait), { ...policy.limited, host, cause: failure });
      }
      await sleep(wait, undefined, { signal }).catch((cause: unknown) => {
        signal?.throwIfAborted();
        throw cause;
      });
      waited += wait;
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }
}
