import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { messageOf, reap, UserError, UserErrors, inLine, plainText } from '@flatcar/core/engine';
import { REPOSITORY } from '../select.ts';
import { endTree } from './process-tree.ts';

/** What a child of this program must know of its caller's environment: all, as it is the same program. */
export const passedOn = (): Record<string, string> =>
  Object.fromEntries(Object.entries(process.env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));

/** Where a step shows what happens: the program's own standard error and output. */
export interface StepOutput {
  /** Writes a line for people. */
  readonly tell: (text: string) => void;
  /** Has GitHub's runner take nothing for a command until `end`. */
  readonly fence: (word: string) => { readonly end: () => void };
}

interface StepOptions {
  readonly output: StepOutput;
  readonly env?: Record<string, string>;
  /** True where standard output is a value to be read, and not to be shown. */
  readonly json?: boolean;
  /** Milliseconds after which it is ended, with all that it started; as long as it takes unless specified. */
  readonly limit?: number;
}

/**
 * Runs a program as the leader of a process group, which ends as a whole when it is cancelled or over its limit. Gives its standard output,
 * and when it failed the end of all that it printed. In GitHub Actions nothing that it prints is a command to the runner.
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  signal: AbortSignal,
  { output, env = passedOn(), json = false, limit }: StepOptions,
): Promise<{ readonly error: string | undefined; readonly stdout: string }> {
  const { execa } = await import('execa');
  const fence = process.env['GITHUB_ACTIONS'] === 'true' ? output.fence(randomUUID()) : undefined;
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  let ending: Promise<void> | undefined;
  let reaped: (() => void) | undefined;
  try {
    signal.throwIfAborted();
    const child = execa(program, args, {
      all: true,
      reject: false,
      detached: true,
      env,
      extendEnv: false,
      stdout: json ? 'pipe' : ['pipe', 'inherit'],
      stderr: ['pipe', 'inherit'],
      maxBuffer: 64 * 2 ** 20,
    });
    const { pid } = child;
    reaped = pid === undefined ? undefined : reap(-pid);
    // What a killed program started may hold its output open: only the program itself is waited for.
    const exited = new Promise<void>((done) => void child.nodeChildProcess.once('exit', () => done()));
    const end = (): void => {
      if (pid !== undefined) ending ??= endTree(pid, exited);
    };
    signal.addEventListener('abort', end, { once: true });
    if (limit !== undefined)
      timer = setTimeout(() => {
        isOver = true;
        end();
      }, limit);
    const { failed, all, stdout } = await child;
    signal.removeEventListener('abort', end);
    await ending;
    signal.throwIfAborted();
    const tail = plainText(all).split('\n').slice(-30).join('\n').slice(-6000);
    if (isOver) return { stdout, error: `${tail}\nended after the limit of ${Math.round((limit ?? 0) / 60_000)} minutes`.trim() };
    return { stdout, error: failed ? tail || 'it ended without a word' : undefined };
  } finally {
    clearTimeout(timer);
    reaped?.();
    fence?.end();
  }
}

/** Runs this program as its own process, so that whatever happens to it happens to one extension. */
export async function runStep(args: readonly string[], signal: AbortSignal, options: StepOptions): ReturnType<typeof runProgram> {
  options.output.tell(`flatcar-ext ${args.map(inLine).join(' ')}`);
  return runProgram(join(REPOSITORY, 'packages/cli/bin/flatcar-ext'), args, signal, options);
}

/** Runs this program as its own process; gives the end of what it printed when it failed. */
export async function attempt(args: readonly string[], signal: AbortSignal, options: StepOptions): Promise<string | undefined> {
  return (await runStep(args, signal, options)).error;
}

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
