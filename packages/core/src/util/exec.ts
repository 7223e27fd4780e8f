import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { envOf, homeOf } from './env.ts';
import { adviceFor, describeStart } from './errno.ts';
import { UserError, type ErrorAbout } from './errors.ts';
import { interruption } from './interrupt.ts';
import { reap } from './reaper.ts';
import { temporaryFolder } from './temporary.ts';
import type { Report } from './events.ts';

/** Options for running a tool. */
export interface ExecOptions {
  /** Name of the tool in errors and events, if its command is another program that starts it. */
  readonly name?: string;
  /** Arguments that make the command start the tool, such as those of a dynamic loader; not shown in errors. */
  readonly startArgs?: readonly string[];
  readonly cwd?: string;
  /** The whole environment besides PATH, HOME, TMPDIR and the C locale: no other variable of the caller reaches a tool. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Buffer;
  /** Receives each line of output as it is printed. */
  readonly report?: Report;
  /** Advice if the tool is not installed, such as `install dpkg`. */
  readonly install?: string;
  /** Advice if the tool ran and failed. */
  readonly next?: string;
  readonly signal?: AbortSignal;
  /** Keeps the tool's input open until the tool ends or the signal aborts: for a tool of another user (sudo), which receives no signal of ours. */
  readonly holdInput?: boolean;
  /** The most characters of output, 256 Mi by default; a tool that prints more is ended, and the output is cut there. */
  readonly maxOutput?: number;
}

/** How a tool ended. */
export interface ExecResult {
  /** Undefined if a signal ended the tool. */
  readonly exitCode: number | undefined;
  readonly signal: string | undefined;
  readonly stdout: string;
  /** Standard output and standard error, in the order of printing. */
  readonly output: string;
}

/** The search path for programs if PATH is not set, that of execvp(3) on Debian. */
export const DEFAULT_PATH = '/usr/local/bin:/usr/bin:/bin';

const NETWORK = /^(?:(?:https?|all|no)_proxy|SSL_CERT_(?:FILE|DIR))$/i;

/** The network settings of the caller's environment, for tools that fetch. */
export function networkEnv(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([key, value]) => (NETWORK.test(key) && value !== undefined && value !== '' ? [[key, value]] : [])),
  );
}

/** TMPDIR: of the work that a tool is run for, else the caller's if it is a folder: tools fail at once if it is not. */
function temporaryEnv(): Record<string, string> {
  const own = temporaryFolder();
  if (own !== undefined) return { TMPDIR: own };
  const dir = envOf('TMPDIR');
  if (dir?.startsWith('/') !== true) return {};
  return statSync(dir, { throwIfNoEntry: false })?.isDirectory() === true ? { TMPDIR: dir } : {};
}

// Each child leads a process group of its own, so that all processes that it starts end with it.
const running = new Set<number>();
const killGroup = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(-pid, signal);
  } catch {
    // ESRCH: all of them have ended
  }
};
const killAll = (): void => {
  for (const pid of running) killGroup(pid, 'SIGKILL');
};

/** How long a child may clean up after SIGTERM before its group is killed, in milliseconds. */
const GRACE = 700;

/** Ends a child and all processes that it started when the signal aborts, and those that it left running when it ends. Returns the clean-up. */
function follow(pid: number | undefined, signal: AbortSignal | undefined): () => void {
  if (pid === undefined) return () => undefined;
  if (running.size === 0) process.on('exit', killAll);
  running.add(pid);
  const ended = reap(-pid);
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    killGroup(pid, 'SIGTERM');
    timer = setTimeout(() => killGroup(pid, 'SIGKILL'), GRACE);
  };
  if (signal?.aborted === true) stop();
  else signal?.addEventListener('abort', stop, { once: true });
  return () => {
    signal?.removeEventListener('abort', stop);
    clearTimeout(timer);
    killGroup(pid, 'SIGKILL');
    ended();
    running.delete(pid);
    if (running.size === 0) process.off('exit', killAll);
  };
}

/** A tool that ended with an error. */
export class ToolError extends UserError {
  /** Standard output and standard error. */
  readonly output: string;

  constructor(what: string, about: Omit<ErrorAbout, 'code'> & { readonly output: string }) {
    super(what, { ...about, code: 'tool-failed' });
    this.name = 'ToolError';
    this.output = about.output;
  }
}

/** The output of a tool whose failure is an error or caused it; empty for any other error. */
export function outputOf(error: unknown): string {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1)
    if (at instanceof ToolError) return at.output;
  return '';
}

/**
 * Runs a tool with a clean environment (C locale, UTC) and returns how it ended.
 * Throws a UserError with the kernel's reason if it cannot be started, and the reason of the signal if that aborts: then the tool and all
 * processes that it started have ended.
 */
export async function execResult(command: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  const name = options.name ?? basename(command);
  const signal = interruption(options.signal);
  const { execa } = await import('execa'); // not at start: many commands run no tool
  signal?.throwIfAborted();
  const child = execa(command, [...(options.startArgs ?? []), ...args], {
    cwd: options.cwd,
    ...(options.input === undefined
      ? { stdin: options.holdInput === true ? ('pipe' as const) : ('ignore' as const) }
      : { input: options.input }),
    extendEnv: false,
    env: { PATH: envOf('PATH') ?? DEFAULT_PATH, HOME: homeOf() ?? '/', ...temporaryEnv(), LC_ALL: 'C', TZ: 'UTC', ...options.env },
    detached: true,
    cleanup: false,
    reject: false,
    all: true,
    stripFinalNewline: true,
    maxBuffer: options.maxOutput ?? 256 << 20,
  });
  if (options.report !== undefined) {
    const report = options.report;
    void (async () => {
      for await (const line of child.iterable({ from: 'all' })) report({ type: 'log', what: name, line });
    })().catch(() => undefined); // the result below reports a failure
  }
  const letGo = (): void => void child.stdin?.destroy();
  if (options.holdInput === true) signal?.addEventListener('abort', letGo, { once: true });
  const unfollow = follow(child.pid, signal);
  const result = await child.finally(() => {
    unfollow();
    signal?.removeEventListener('abort', letGo);
    letGo();
  });
  signal?.throwIfAborted();
  // A program that never ran has a code of the kernel, but no exit code and no signal.
  if (result.failed && result.exitCode === undefined && result.signal === undefined && /^E[A-Z0-9]+$/.test(result.code ?? ''))
    throw describeStart(command, result.code ?? '', { name, cwd: options.cwd, install: options.install, cause: result.cause });
  return { exitCode: result.exitCode, signal: result.signal, stdout: result.stdout, output: result.all ?? '' };
}

/**
 * Runs a tool with a clean environment (C locale, UTC) and returns its standard output.
 * Throws a ToolError with its output if it fails, a UserError with the kernel's reason if it cannot be started, and the reason of
 * the signal if that aborts: then the tool and all processes that it started have ended.
 */
export async function exec(command: string, args: readonly string[], options: ExecOptions = {}): Promise<string> {
  const name = options.name ?? basename(command);
  const result = await execResult(command, args, options);
  if (result.exitCode === 0) return result.stdout;
  const tail = result.output.split('\n').slice(-20).join('\n');
  const how = result.signal === undefined ? `exit code ${result.exitCode}` : `signal ${result.signal}`;
  // A SIGKILL that we did not send is usually the kernel's: out of memory.
  const killed = result.signal === 'SIGKILL' ? 'the machine or container may be out of memory: see the kernel log (dmesg)' : undefined;
  const next = killed ?? adviceFor(tail) ?? options.next;
  throw new ToolError(`${name} failed (${how})${tail === '' ? '' : `\n${tail}`}`, {
    where: [name, ...args].join(' ').slice(0, 300),
    next,
    output: result.output,
  });
}
