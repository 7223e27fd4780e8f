import { join } from 'node:path';
import { REPOSITORY } from '../options.ts';
import type { Outcome } from './outcome.ts';

/** What a child of this program must know of its caller's environment: all, as it is the same program. */
export const passedOn = (): Record<string, string> =>
  Object.fromEntries(Object.entries(process.env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));

/** Runs this program as its own process, so that whatever happens to it happens to one extension; gives the end of what it said on failure. */
export async function attempt(args: readonly string[], signal: AbortSignal): Promise<string | undefined> {
  const { execa } = await import('execa');
  console.error(`flatcar-ext ${args.join(' ')}`);
  const { failed, all } = await execa(join(REPOSITORY, 'packages/cli/bin/flatcar-ext'), args, {
    all: true, reject: false, cancelSignal: signal, stdout: ['pipe', 'inherit'], stderr: ['pipe', 'inherit'], maxBuffer: 64 * 2 ** 20,
  }); // prettier-ignore
  signal.throwIfAborted();
  return failed ? (all ?? '').split('\n').slice(-30).join('\n').slice(-6000) : undefined;
}

/** The outcome of a step that failed with `error`, or did not fail. */
export const outcomeOf = (step: Outcome['step'], extension: string, what: string, error: string | undefined): Outcome => ({
  step, extension, what, ok: error === undefined, ...(error === undefined ? {} : { error }),
}); // prettier-ignore
