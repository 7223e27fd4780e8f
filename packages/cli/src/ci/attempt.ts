import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { messageOf, UserError, UserErrors } from '@flatcar/core';
import { REPOSITORY } from '../options.ts';
import type { Outcome } from './outcome.ts';

/** What a child of this program must know of its caller's environment: all, as it is the same program. */
export const passedOn = (): Record<string, string> =>
  Object.fromEntries(Object.entries(process.env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));

/** The environment without what signs, publishes or writes to GitHub: what compiles other people's code is not given it. */
export const withoutKeys = (): Record<string, string> =>
  Object.fromEntries(
    Object.entries(passedOn()).filter(
      ([key]) => !/^(?:FLATCAR_EXT_(?:\w+_KEY|KEYS)|AWS_\w+|ACTIONS_\w+|GITHUB_TOKEN|GH_TOKEN|\w+_(?:TOKEN|SECRET|PASSWORD))$/.test(key),
    ),
  );

interface StepOptions {
  readonly env?: Record<string, string>;
  /** True where standard output is a value to be read, and not to be shown. */
  readonly json?: boolean;
}

/**
 * Runs this program as its own process, so that whatever happens to it happens to one extension. Gives its standard output, and when it failed
 * the end of all that it printed. In GitHub Actions nothing that it prints is a command to the runner.
 */
export async function runStep(
  args: readonly string[],
  signal: AbortSignal,
  { env = passedOn(), json = false }: StepOptions = {},
): Promise<{ readonly error: string | undefined; readonly stdout: string }> {
  const { execa } = await import('execa');
  console.error(`flatcar-ext ${args.join(' ')}`);
  // https://docs.github.com/actions/reference/workflow-commands-for-github-actions#stopping-and-starting-workflow-commands
  const fence = process.env['GITHUB_ACTIONS'] === 'true' ? randomUUID() : undefined;
  if (fence !== undefined) console.log(`::stop-commands::${fence}`);
  try {
    const { failed, all, stdout } = await execa(join(REPOSITORY, 'packages/cli/bin/flatcar-ext'), args, {
      all: true,
      reject: false,
      cancelSignal: signal,
      env,
      extendEnv: false,
      stdout: json ? 'pipe' : ['pipe', 'inherit'],
      stderr: ['pipe', 'inherit'],
      maxBuffer: 64 * 2 ** 20,
    });
    signal.throwIfAborted();
    return { stdout, error: failed ? all.split('\n').slice(-30).join('\n').slice(-6000) || 'it ended without a word' : undefined };
  } finally {
    if (fence !== undefined) console.log(`::${fence}::`);
  }
}

/** Runs this program as its own process; gives the end of what it printed when it failed. */
export async function attempt(args: readonly string[], signal: AbortSignal, options: StepOptions = {}): Promise<string | undefined> {
  return (await runStep(args, signal, options)).error;
}

/** The outcome of a step of an extension that failed with `error`, or did not fail. */
export const outcomeOf = (step: Outcome['step'], extension: string, what: string, error: string | undefined): Outcome =>
  error === undefined ? { step, extension, what, ok: true } : { step, extension, what, ok: false, error };

/** The text of an error for an outcome: what happened, where, and what to do. */
export function failureText(error: unknown): string {
  if (error instanceof UserErrors) return [error.message, ...error.errors.map(failureText)].join('\n').slice(0, 6000);
  if (!(error instanceof UserError)) return messageOf(error).slice(0, 6000);
  const { message, where, next } = error;
  return [message, where === undefined ? '' : `  at: ${where}`, next === undefined ? '' : `  do: ${next}`]
    .filter((line) => line !== '')
    .join('\n')
    .slice(0, 6000);
}
