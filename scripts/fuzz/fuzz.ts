// npm run fuzz: mutated inputs for the readers of files that others made.
import { fork, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, relative, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Reader } from './readers.ts';
import type { Message, Progress, Work } from './worker.ts';

const HELP = `read mutated inputs by the readers of files that others made, and find those that hang, crash or take all memory

npm run fuzz -- READER... [OPTIONS]     the named readers; all of them without a name

  --seconds N      how long each reader is fuzzed (default: 10)
  --seed S         begin with this number; the same seed tries the same inputs (default: the time)
  --timeout S      an input that takes longer hangs (default: 10 seconds)
  --memory MIB     an input must not make the process grow by more (default: 512)
  --jobs N         readers at once (default: 1)
  --no-coverage    mutate the seeds only; by default inputs that reach code that none reached before are mutated too
  --input FILE     read this one input, as a saved one says
  --readers FILE   a module that exports READERS, in place of scripts/fuzz/readers.ts
  --save DIR       where inputs that were found go (default: dist/fuzz)
  --json           print JSON
  --list           list the readers
  -h, --help       print this help

Ends with 1 when anything was found: an input that does not end, one whose error is not a UserError, one that takes too much memory. Each is
saved, and printed with the command that reads it again.

Examples:
  npm run fuzz -- squashfs --seconds 60
  npm run fuzz -- --seconds 5 --seed 1 --json
  npm run fuzz -- elf --input dist/fuzz/elf-hang-0123456789ab`;

interface Options {
  readonly seconds: number;
  readonly seed: number;
  readonly timeout: number;
  readonly memory: number;
  readonly coverage: boolean;
  readonly save: string;
  readonly input?: string;
  readonly table: string;
}
type Readers = Readonly<Record<string, Reader>>;

const repository = resolve(import.meta.dirname, '../..');

/** Something that a reader must not do, and the input that makes it. */
interface Found {
  readonly kind: 'hang' | 'crash' | 'memory';
  readonly error: string;
  readonly input: string;
  readonly again: string;
}

/** How a reader did. */
interface Result extends Omit<Progress, 'slowestInput'> {
  readonly reader: string;
  readonly seed: number;
  readonly found: readonly Found[];
}

/** How long a worker may take to load its modules on a busy machine, in ms. */
const STARTS = 120_000;

const children = new Set<ChildProcess>();
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    for (const child of children) child.kill('SIGKILL');
    process.exitCode = 130;
  });

/** How a worker ended: by itself, or what its last input did to it. */
interface Ended {
  readonly progress: Progress | undefined;
  readonly messages: readonly Message[];
  readonly end: 'done' | 'hang' | 'memory' | 'crash';
  readonly log: string;
}

/** Runs a worker to its end. It is killed when its input file has not changed for the timeout. */
async function runWorker(work: Work, { timeout, memory }: Pick<Options, 'timeout' | 'memory'>): Promise<Ended> {
  const input = join(work.dir, 'input');
  rmSync(input, { force: true });
  const child = fork(join(import.meta.dirname, 'worker.ts'), [JSON.stringify(work)], {
    execArgv: [`--max-old-space-size=${memory + 256}`, '--stack-trace-limit=20'],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  children.add(child);
  const messages: Message[] = [];
  let progress: Progress | undefined;
  let done = false;
  let log = '';
  child.stderr?.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-20_000)));
  child.on('message', (message: Message) => {
    if (message.kind === 'progress') [progress, done] = [message.progress, done || message.done];
    else messages.push(message);
  });
  const ended = new Promise<void>((resolve) => {
    child.on('close', () => resolve());
  });
  const started = Date.now();
  let isHung = false;
  const watch = setInterval(() => {
    const changed = statSync(input, { throwIfNoEntry: false })?.mtimeMs ?? started + STARTS;
    if (Date.now() - changed < timeout * 1000) return;
    isHung = true;
    child.kill('SIGKILL');
  }, 250);
  await ended;
  clearInterval(watch);
  children.delete(child);
  if (done) return { progress, messages, end: 'done', log };
  // 13: a promise that never settles (node:process, Exit codes).
  const end = isHung || child.exitCode === 13 ? 'hang' : /heap out of memory|allocation failed/i.test(log) ? 'memory' : 'crash';
  return { progress, messages, end, log };
}

/** Reads an input once more in a fresh worker, where nothing but it can be the reason. */
async function confirm(work: Work, file: string, options: Options): Promise<Found | undefined> {
  const { end, messages, log } = await runWorker({ ...work, input: file, coverage: false }, options);
  const kind = end === 'done' ? messages.find((one) => one.kind !== 'progress')?.kind : end;
  if (kind === undefined) return undefined;
  const digest = createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 12);
  const saved = join(options.save, `${work.reader}-${kind}-${digest}`);
  mkdirSync(options.save, { recursive: true });
  if (resolve(file) !== resolve(saved)) copyFileSync(file, saved);
  const crash = messages.find((one) => one.kind === 'crash');
  const error =
    kind === 'hang'
      ? `it does not end within ${options.timeout} seconds`
      : kind === 'memory'
        ? `the process grew by more than ${options.memory} MiB`
        : (crash?.error ?? log);
  return { kind, error, input: saved, again: `npm run fuzz -- ${work.reader} --input ${relative(repository, saved)}` };
}

const NOTHING: Progress = { inputs: 0, seconds: 0, slowest: 0, slowestInput: '', peak: 0, corpus: 0, blocks: 0 };

const sum = (a: Progress, b: Progress): Progress => ({
  inputs: a.inputs + b.inputs,
  seconds: a.seconds + b.seconds,
  slowest: Math.max(a.slowest, b.slowest),
  slowestInput: a.slowest > b.slowest ? a.slowestInput : b.slowestInput,
  peak: Math.max(a.peak, b.peak),
  corpus: Math.max(a.corpus, b.corpus),
  blocks: Math.max(a.blocks, b.blocks),
});

/** Fuzzes one reader: a worker that ends early is followed by one with another seed, until the time is over. */
async function fuzzReader(reader: string, { prepare }: Reader, dir: string, options: Options): Promise<Result> {
  mkdirSync(join(dir, 'seeds'), { recursive: true });
  for (const [index, seed] of (await prepare(dir)).entries()) await writeFile(join(dir, 'seeds', String(index)), seed);
  const found = new Map<string, Found>();
  const { table, seed, seconds, memory, coverage } = options;
  const work: Work = { table, reader, dir, seed, seconds, memory, coverage };
  const note = async (file: string): Promise<void> => {
    const one = await confirm(work, file, options);
    if (one !== undefined) found.set(`${one.kind} ${one.error.split('\n').slice(0, 3).join(' ')}`, one);
  };
  let total = NOTHING;
  if (options.input !== undefined) await note(resolve(options.input));
  for (let run = 0; options.input === undefined && total.seconds < seconds && process.exitCode === undefined; run += 1) {
    const {
      progress = NOTHING,
      messages,
      end,
      log,
    } = await runWorker({ ...work, seed: seed + run, seconds: seconds - total.seconds }, options);
    total = sum(total, progress);
    if (end !== 'done') {
      total = { ...total, seconds: total.seconds + 1 }; // what it did since its last report is unknown
      if (progress === NOTHING && !existsSync(join(dir, 'input'))) throw new Error(`the worker of '${reader}' does not start:\n${log}`);
      const last = join(dir, `last-${String(run).padStart(12, '0')}`);
      copyFileSync(join(dir, 'input'), last);
      await note(last);
    }
    for (const message of messages) if (message.kind !== 'progress') await note(message.input);
  }
  const { slowestInput, ...figures } = total;
  if (slowestInput !== '' && found.size === 0) {
    mkdirSync(options.save, { recursive: true });
    copyFileSync(slowestInput, join(options.save, `${reader}-${basename(slowestInput)}`));
  }
  return { reader, seed: options.seed, ...figures, found: [...found.values()] };
}

const count = (result: Result, kind: Found['kind']): number => result.found.filter((one) => one.kind === kind).length;

function tableOf(results: readonly Result[]): string {
  const rows = [
    ['reader', 'inputs', 'hangs', 'crashes', 'memory', 'slowest', 'peak', 'kept', 'blocks'],
    ...results.map((one) => [
      one.reader,
      String(one.inputs),
      ...(['hang', 'crash', 'memory'] as const).map((kind) => String(count(one, kind))),
      `${Math.round(one.slowest)} ms`,
      `${Math.round(one.peak)} MiB`,
      String(one.corpus),
      String(one.blocks),
    ]),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) => row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join('  '))
    .join('\n');
}

function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        seconds: { type: 'string', default: '10' },
        seed: { type: 'string', default: String(Date.now() % 1_000_000) },
        timeout: { type: 'string', default: '10' },
        memory: { type: 'string', default: '512' },
        jobs: { type: 'string', default: '1' },
        'no-coverage': { type: 'boolean', default: false },
        input: { type: 'string' },
        readers: { type: 'string', default: join(import.meta.dirname, 'readers.ts') },
        save: { type: 'string', default: join(repository, 'dist/fuzz') },
        json: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    const number = (name: 'seconds' | 'seed' | 'timeout' | 'memory' | 'jobs'): number => {
      const value = Number(values[name]);
      if (!Number.isSafeInteger(value) || value < (name === 'seed' ? 0 : 1))
        throw new Error(`--${name} ${values[name]}: not a whole number`);
      return value;
    };
    if (values.input !== undefined && positionals.length !== 1) throw new Error('--input takes the name of one reader');
    const options: Options = {
      seconds: number('seconds'),
      seed: number('seed'),
      timeout: number('timeout'),
      memory: number('memory'),
      coverage: !values['no-coverage'],
      save: resolve(values.save),
      input: values.input,
      table: resolve(values.readers),
    };
    return { ...values, jobs: number('jobs'), named: positionals, options };
  } catch (error) {
    console.error(`error: ${(error as Error).message}\nnext: see npm run fuzz -- --help`);
    process.exit(2);
  }
}

async function main(): Promise<number> {
  const { named, options, jobs, json, list, help } = readArguments();
  if (help) {
    console.log(HELP);
    return 0;
  }
  const { READERS } = (await import(options.table)) as { READERS: Readers };
  const unknown = named.find((name) => !Object.hasOwn(READERS, name));
  if (unknown !== undefined) {
    console.error(`error: unknown reader '${unknown}'\nnext: see npm run fuzz -- --list`);
    return 2;
  }
  if (list) {
    for (const [name, { what }] of Object.entries(READERS)) console.log(`${name.padEnd(18)}${what}`);
    return 0;
  }
  const temp = await mkdtemp(join(tmpdir(), 'flatcar-ext-fuzz-'));
  try {
    const waiting = Object.entries(READERS).filter(([name]) => named.length === 0 || named.includes(name));
    const results: Result[] = [];
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined && process.exitCode === undefined; next = waiting.shift()) {
        const [name, reader] = next;
        if (!json) console.error(`fuzzing ${name}`);
        results.push(await fuzzReader(name, reader, join(temp, name), options));
        await rm(join(temp, name), { recursive: true, force: true });
      }
    };
    await Promise.all(Array.from({ length: jobs }, work));
    const order = Object.keys(READERS);
    results.sort((a, b) => order.indexOf(a.reader) - order.indexOf(b.reader));
    if (json) console.log(JSON.stringify(results, undefined, 2));
    else {
      if (options.input === undefined) console.log(tableOf(results));
      for (const { found } of results)
        for (const one of found) console.log(`\n${one.kind}: ${one.error}\n  input: ${one.input}\n  again: ${one.again}`);
      if (options.input !== undefined && results.every(({ found }) => found.length === 0))
        console.log('nothing found: it is read, or refused by a UserError');
    }
    return results.some(({ found }) => found.length > 0) ? 1 : 0;
  } finally {
    await rm(temp, { recursive: true, force: true, maxRetries: 3 });
  }
}

try {
  const code = await main();
  process.exitCode ??= code;
} catch (error) {
  console.error(`error: ${(error as Error).stack}`);
  process.exitCode = 1;
}
await sleep(0);
