import { execa } from 'execa';
import type { Report } from './types.ts';
import { envOf, homeOf } from './env.ts';
import { UserError } from './errors.ts';

/** How a tool is run. */
export interface ExecOptions {
  /** What the tool is called in errors and events, where its command is another program that starts it. */
  readonly name?: string;
  readonly cwd?: string;
  /** The whole environment besides PATH, HOME and the C locale: nothing else of the caller's reaches a tool. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Buffer;
  /** Each line of output is reported as it comes. */
  readonly report?: Report;
  /** What to do when the tool fails. */
  readonly next?: string;
  readonly signal?: AbortSignal;
}

/** Where programs are looked for when PATH is not set, as execvp(3) has it on Debian. */
export const DEFAULT_PATH = '/usr/local/bin:/usr/bin:/bin';

const NETWORK = /^(?:(?:https?|all|no)_proxy|SSL_CERT_(?:FILE|DIR)|TMPDIR)$/i;

/** The network settings of the caller's environment, for tools that fetch. */
export function networkEnv(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([key, value]) => (NETWORK.test(key) && value !== undefined && value !== '' ? [[key, value]] : [])),
  );
}

/**
 * Runs a tool with a clean environment (C locale, UTC) and returns its standard output.
 * Throws a UserError with the end of its output when it fails or is missing.
 */
export async function exec(command: string, args: readonly string[], options: ExecOptions = {}): Promise<string> {
  const name = options.name ?? command.split('/').at(-1) ?? command;
  const child = execa(command, args, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    extendEnv: false,
    env: { PATH: envOf('PATH') ?? DEFAULT_PATH, HOME: homeOf() ?? '/', LC_ALL: 'C', TZ: 'UTC', ...options.env },
    reject: false,
    all: true,
    stripFinalNewline: true,
    maxBuffer: 256 << 20,
  });
  if (options.report !== undefined) {
    const report = options.report;
    void (async () => {
      for await (const line of child.iterable({ from: 'all' })) report({ type: 'log', what: name, line });
    })().catch(() => undefined); // a failure is told by the result below
  }
  const result = await child;
  if (!result.failed) return result.stdout;
  if (result.code === 'ENOENT')
    throw new UserError(`'${name}' is not installed`, { where: command, ...(options.next === undefined ? {} : { next: options.next }) });
  const tail = (result.all ?? '').split('\n').slice(-20).join('\n');
  const how = result.signal === undefined ? `exit code ${result.exitCode}` : `signal ${result.signal}`;
  throw new UserError(`${name} failed (${how})\n${tail}`, {
    where: [name, ...args].join(' ').slice(-300),
    ...(options.next === undefined ? {} : { next: options.next }),
  });
}
