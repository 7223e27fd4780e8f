import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { messageOf, reap, UserError, UserErrors, inLine, plainText } from '@flatcar/core/engine';
import { REPOSITORY } from '../select.ts';
import { endTree } from './process-tree.ts';

/** The environment for a child that is this program, too: all of it. */
export const passedOn = (): Record<string, string> =>
  Object.fromEntries(Object.entries(process.env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));

/** Where a step reports what happens. */
export interface StepOutput {
  /** Writes a line for people. */
  readonly tell: (text: string) => void;
  /** Makes GitHub's runner ignore workflow commands until `end`. */
  readonly fence: (word: string) => { readonly end: () => void };
}

interface StepOptions {
  readonly output: StepOutput;
  readonly env?: Record<string, string>;
  /** Whether standard output is a value to parse, and not to be shown. */
  readonly json?: boolean;
  /** Time limit in milliseconds, after which the program and everything that it started is ended; none by default. */
  readonly limit?: number;
}

/**
 * Runs a program as the leader of a process group, which ends as a whole on a signal or at the time limit. Returns its standard output and, if
 * it failed, the end of everything that it printed. In GitHub Actions nothing that it prints is a command to the runner.
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
    // Children of a killed program may hold its output open: only the program itself is awaited.
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
    return { stdout, error: failed ? tail || 'it failed without any output' : undefined };
  } finally {
    clearTimeout(timer);
    reaped?.();
    fence?.end();
  }
}

/** Runs a command of this program in a process of its own, so that a crash concerns one extension only. */
export async function runStep(args: readonly string[], signal: AbortSignal, options: StepOptions): ReturnType<typeof runProgram> {
  options.output.tell(`flatcar-ext ${args.map(inLine).join(' ')}`);
  return runProgram(join(REPOSITORY, 'packages/cli/bin/flatcar-ext'), args, signal, options);
}

/** Like runStep, for a command whose output is not parsed; returns the error, if any. */
export async function attempt(args: readonly string[], signal: AbortSignal, options: StepOptions): Promise<string | undefined> {
  return (await runStep(args, signal, options)).error;
}

/** The text of an error for an outcome: what happened, where, and what to do next. */
export function failureText(error: unknown): string {
  if (error instanceof UserErrors) return [error.message, ...error.errors.map(failureText)].join('\n').slice(0, 6000);
  if (!(error instanceof UserError)) return messageOf(error).slice(0, 6000);
  const { message, where, next } = error;
  return [message, where === undefined ? '' : `  at: ${where}`, next === undefined ? '' : `  do: ${next}`]
    .filter((line) => line !== '')
    .join('\n')
    .slice(0, 6000);
}
