import { spawn } from 'node:child_process';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** How a command is run. */
export interface RunOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  /** Sent so many milliseconds after the start, unless it has ended by then. */
  readonly signal?: { readonly name: NodeJS.Signals; readonly after: number };
}

/** What became of a command. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
  /** Standard output alone. */
  readonly printed: string;
  /** Milliseconds from start to end. */
  readonly took: number;
  /** Milliseconds from the signal to the end; undefined where it ended by itself. */
  readonly afterSignal: number | undefined;
}

/** No command of these takes as long: one that does hangs, and is a finding. In milliseconds. */
const FOREVER = 300_000;

/** Runs a command, with a signal to it alone where one is given, and waits for its end. */
export async function runCommand([program = '', ...args]: readonly string[], { env, cwd, signal }: RunOptions): Promise<Ended> {
  const child = spawn(program, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  const started = performance.now();
  let [output, printed] = ['', ''];
  child.stdout.on('data', (data: Buffer) => {
    output += data.toString();
    printed += data.toString();
  });
  child.stderr.on('data', (data: Buffer) => (output += data.toString()));
  let signalled: number | undefined;
  const send = (): void => {
    if (signal === undefined || child.exitCode !== null || child.signalCode !== null) return;
    signalled = performance.now();
    child.kill(signal.name);
  };
  const timer = signal === undefined ? undefined : setTimeout(send, signal.after);
  const watchdog = setTimeout(() => {
    output += '\nit did not end, and was killed by the script';
    child.kill('SIGKILL');
  }, FOREVER);
  // `exit`, not `close`: what it has left running may hold its output.
  const [code, name] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('exit', (code, name) => resolve([code, name]));
    child.once('error', reject);
  });
  const ended = performance.now();
  clearTimeout(timer);
  clearTimeout(watchdog);
  if (signal?.name !== 'SIGKILL') await Promise.race([new Promise((resolve) => child.once('close', resolve)), sleep(2000)]);
  return {
    code,
    signal: name,
    output,
    printed,
    took: ended - started,
    afterSignal: signalled === undefined ? undefined : ended - signalled,
  };
}

/** Runs what must succeed. */
export async function expectSuccess(command: readonly string[], options: RunOptions): Promise<Ended> {
  const ended = await runCommand(command, options);
  if (ended.code !== 0) throw new Error(`${command.slice(2).join(' ')} ended with ${ended.code ?? ended.signal}:\n${ended.output}`);
  return ended;
}

/** Mount points in a folder, by this process's table of mounts: a namespace of a command ends with its processes. */
export async function mountsIn(dir: string): Promise<string[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return lines.flatMap((line) => line.split(' ')[4] ?? []).filter((point) => point.startsWith(`${dir}/`));
}

/** Command lines of running processes that have to do with a folder: by their arguments, environment or working folder. */
export async function processesOf(dir: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const read = (name: string): Promise<string> => readFile(`/proc/${pid}/${name}`, 'latin1').catch(() => '');
    const about = [await read('cmdline'), await read('environ'), await readlink(`/proc/${pid}/cwd`).catch(() => '')];
    if (about.some((text) => text.includes(dir))) found.push(about[0]?.replaceAll('\0', ' ').trim() ?? '');
  }
  return found;
}

/** The same, after a moment in which the kernel and the reaper may do their work; in milliseconds. */
export async function processesLeft(dir: string, patience = 1000): Promise<string[]> {
  for (let waited = 0; ; waited += 50) {
    const left = await processesOf(dir);
    if (left.length === 0 || waited >= patience) return left;
    await sleep(50);
  }
}
