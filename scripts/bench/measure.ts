// What the benchmarks share: measuring, and the table of results.
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

export const repository = join(import.meta.dirname, '../..');

/** One measured run. */
export interface Measured {
  readonly seconds: number;
  readonly bytes?: number;
  /** Highest resident memory of the process, in bytes. */
  readonly memory?: number;
}

/** Values by what they are of, with the aim of DESIGN's table where it has one. */
export type Results = Record<string, { value: number; aim?: string }>;

export const say = (text: string): void => console.error(text);

/** Runs a program and measures its wall time and its peak memory (VmHWM of proc(5), read while it runs). */
export async function measure(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Measured> {
  const started = performance.now();
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'], cwd: repository, env: { ...process.env, ...env } });
  let memory = 0;
  const watch = setInterval(() => {
    readFile(`/proc/${child.pid}/status`, 'utf8').then(
      (status) => (memory = Math.max(memory, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024)),
      () => undefined, // it has just ended
    );
  }, 50);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearInterval(watch);
  if (code !== 0) throw new Error(`${command} failed with ${code}`);
  return { seconds: (performance.now() - started) / 1000, memory };
}

/** Wall time of a function, in seconds. */
export async function seconds(run: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await run();
  return (performance.now() - started) / 1000;
}

/** Seconds of CPU that this process and its ended children have used (proc_pid_stat(5), in ticks of 1/100 s): other work does not change them. */
async function cpuSeconds(): Promise<number> {
  const text = await readFile('/proc/self/stat', 'utf8');
  // The name of the program, in parentheses, may contain spaces.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0) / 100;
}

/** Wall time and CPU time of a function, in seconds. */
export async function times(run: () => Promise<unknown>): Promise<{ wall: number; cpu: number }> {
  const before = await cpuSeconds();
  const wall = await seconds(run);
  return { wall, cpu: (await cpuSeconds()) - before };
}

/** Prints results as a table, or as JSON. */
export function printResults(results: Results, json: boolean): void {
  if (json) console.log(JSON.stringify(results, undefined, 2));
  else
    for (const [name, { value, aim = '' }] of Object.entries(results))
      console.log(`${name.padEnd(76)} ${value.toFixed(value < 0.1 ? 4 : 2).padStart(10)}  ${aim}`);
}
