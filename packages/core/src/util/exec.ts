import { statSync } from 'node:fs';
import { execa } from 'execa';
import { envOf, homeOf } from './env.ts';
import { adviceFor, describeStart } from './errno.ts';
import { UserError, type ErrorAbout } from './errors.ts';
import { interruption } from './interrupt.ts';
import { reap } from './reaper.ts';
import { temporaryFolder } from './temporary.ts';
import type { Report } from './events.ts';

/** How a tool is run. */
export interface ExecOptions {
  /** What the tool is called in errors and events, where its command is another program that starts it. */
  readonly name?: string;
  /** Arguments by which the command starts the tool, such as those of a dynamic loader; not shown in errors. */
  readonly startArgs?: readonly string[];
  readonly cwd?: string;
  /** The whole environment besides PATH, HOME, TMPDIR and the C locale: nothing else of the caller's reaches a tool. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Buffer;
  /** Each line of output is reported as it comes. */
  readonly report?: Report;
  /** What to do when the tool is not installed, such as `install dpkg`. */
  readonly install?: string;
  /** What to do when the tool ran and failed. */
  readonly next?: string;
  readonly signal?: AbortSignal;
  /** Keeps the tool's input open until the tool ends or the signal aborts: for one that belongs to another user (sudo) and gets no signal of ours. */
  readonly holdInput?: boolean;
  /** The most characters of output; a tool that prints more is ended, and the output is what came until then. Default: 256 Mi. */
  readonly maxOutput?: number;
}

/** What became of a tool that was started. */
export interface ExecResult {
  /** Undefined for a tool that a signal ended. */
  readonly exitCode: number | undefined;
  readonly signal: string | undefined;
  readonly stdout: string;
  /** Standard output and standard error, as they came. */
  readonly output: string;
}

/** Where programs are looked for when PATH is not set, as execvp(3) has it on Debian. */
export const DEFAULT_PATH = '/usr/local/bin:/usr/bin:/bin';

const NETWORK = /^(?:(?:https?|all|no)_proxy|SSL_CERT_(?:FILE|DIR))$/i;

/** The network settings of the caller's environment, for tools that fetch. */
export function networkEnv(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([key, value]) => (NETWORK.test(key) && value !== undefined && value !== '' ? [[key, value]] : [])),
  );
}

/** TMPDIR: of the work that a tool is run for, else the caller's, where it is a folder: tools end at once when it is not. */
function temporaryEnv(): Record<string, string> {
  const own = temporaryFolder();
  if (own !== undefined) return { TMPDIR: own };
  const dir = envOf('TMPDIR');
  if (dir?.startsWith('/') !== true) return {};
  return statSync(dir, { throwIfNoEntry: false })?.isDirectory() === true ? { TMPDIR: dir } : {};
}

// Each child leads a process group of its own, so that what it starts ends with it.
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

/** Ends a child and all that it started when the signal aborts, and what it left running when it ends. Gives the clean-up. */
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
  const name = options.name ?? command.split('/').at(-1) ?? command;
  const signal = interruption(options.signal);
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
    })().catch(() => undefined); // a failure is told by the result below
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
  // What never ran has a code of the kernel, and neither an exit code nor a signal.
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
  const name = options.name ?? command.split('/').at(-1) ?? command;
  const result = await execResult(command, args, options);
  if (result.exitCode === 0) return result.stdout;
  const tail = result.output.split('\n').slice(-20).join('\n');
  const how = result.signal === undefined ? `exit code ${result.exitCode}` : `signal ${result.signal}`;
  // SIGKILL that we did not send is most often the kernel's, out of memory.
  const killed = result.signal === 'SIGKILL' ? 'the machine or container may be out of memory: see the kernel log (dmesg)' : undefined;
  const next = killed ?? adviceFor(tail) ?? options.next;
  throw new ToolError(`${name} failed (${how})${tail === '' ? '' : `\n${tail}`}`, {
    where: [name, ...args].join(' ').slice(0, 300),
    next,
    output: result.output,
  });
}
