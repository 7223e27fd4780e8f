// One reader and its inputs, in a process of its own: what hangs or takes all memory is ended by scripts/fuzz/fuzz.ts, which finds the input in
// the file `input`. Talks to it by messages.
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '@flatcar/core/engine';
import { Coverage } from './coverage.ts';
import { mutate, mutateJson, randomFrom, type Random } from './mutate.ts';
import type { Reader } from './readers.ts';

/** What a worker is started with. */
export interface Work {
  /** Module that exports READERS. */
  readonly table: string;
  readonly reader: string;
  /** Has `seeds/` and what prepare() put beside it; takes `input` and what is found. */
  readonly dir: string;
  readonly seed: number;
  /** How long to go on after the seeds were read. */
  readonly seconds: number;
  /** Most MiB that the process may grow by. */
  readonly memory: number;
  readonly coverage: boolean;
  /** One input to try, instead of mutations. */
  readonly input?: string;
}

/** How far a worker is. */
export interface Progress {
  readonly inputs: number;
  /** Since the seeds were read. */
  readonly seconds: number;
  /** CPU time of the input that took longest, and its file. */
  readonly slowest: number;
  readonly slowestInput: string;
  /** MiB that the process grew by at most. */
  readonly peak: number;
  readonly corpus: number;
  readonly blocks: number;
}

export type Message =
  | { readonly kind: 'progress'; readonly progress: Progress; readonly done: boolean }
  | { readonly kind: 'crash'; readonly error: string; readonly input: string }
  | { readonly kind: 'memory'; readonly input: string };

/** Inputs between two looks at coverage, and ms of them: a look takes tens of milliseconds. */
const BATCH = 2000;
const BATCH_MS = 500;
const MOST_CORPUS = 2000;

const work = JSON.parse(process.argv[2] ?? '') as Work;
async function readerOf(name: string): Promise<Reader> {
  const { READERS } = (await import(work.table)) as { READERS: Readonly<Record<string, Reader>> };
  const found = READERS[name];
  if (found === undefined) throw new Error(`unknown reader '${name}'`);
  return found;
}
const reader = await readerOf(work.reader);
const send = (message: Message): void => void process.send?.(message);
const peak = (): number => process.resourceUsage().maxRSS / 1024;

const inputFile = join(work.dir, 'input');
const handle = openSync(inputFile, 'w+');
/** The input is in its file before it is read: that is what is left of a reader that does not come back. */
function writeInput(bytes: Buffer): void {
  ftruncateSync(handle, bytes.length);
  writeSync(handle, bytes, 0, bytes.length, 0);
}

function save(kind: string, bytes: Buffer): string {
  const folder = join(work.dir, 'found');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${kind}-${createHash('sha256').update(bytes).digest('hex').slice(0, 12)}`);
  writeFileSync(file, bytes);
  return file;
}

/** Where an error comes from, so that each defect is reported once. */
const placeOf = (error: unknown): string => {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return (
    text
      .split('\n')
      .filter((line) => line.includes('/packages/'))
      .slice(0, 2)
      .join(' ') || text.slice(0, 200)
  );
};

const crashes = new Set<string>();
let [inputs, slowest, slowestInput, base, started] = [0, -1, '', 0, 0];

/** Reads one input. A UserError is what damage is to give; everything else is a defect. */
async function attempt(read: (bytes: Buffer, file: string) => unknown, bytes: Buffer): Promise<void> {
  writeInput(bytes);
  const before = process.cpuUsage();
  try {
    await read(bytes, inputFile);
  } catch (error) {
    const place = placeOf(error);
    if (!(error instanceof UserError) && !crashes.has(place)) {
      crashes.add(place);
      send({ kind: 'crash', error: error instanceof Error ? (error.stack ?? error.message) : String(error), input: save('crash', bytes) });
    }
  }
  const { user, system } = process.cpuUsage(before);
  inputs += 1;
  if ((user + system) / 1000 > slowest) {
    slowest = (user + system) / 1000;
    if (slowest > 500) slowestInput = save('slow', bytes);
  }
  if (base > 0 && peak() - base > work.memory) {
    send({ kind: 'memory', input: save('memory', bytes) });
    await finish(); // the peak never goes down: a fresh process goes on
  }
}

let corpus: Buffer[] = [];
let coverage: Coverage | undefined;
const progress = (): Progress => ({
  inputs,
  seconds: started === 0 ? 0 : (Date.now() - started) / 1000,
  slowest,
  slowestInput,
  peak: Math.max(0, peak() - base),
  corpus: corpus.length,
  blocks: coverage?.blocks ?? 0,
});

async function finish(): Promise<never> {
  await new Promise((sent) => {
    process.send?.({ kind: 'progress', progress: progress(), done: true } satisfies Message, sent);
  });
  process.exit();
}

function next(random: Random): Buffer {
  const one = corpus[random(corpus.length)] ?? Buffer.alloc(0);
  const other = corpus[random(corpus.length)] ?? Buffer.alloc(0);
  const most = reader.most ?? 1 << 18;
  if (reader.format === 'json' && random(2) === 0) return mutateJson(one, random).subarray(0, most);
  const mutated = mutate(one, random, { other, words: reader.words, most });
  return reader.repair === undefined || random(2) === 0 ? mutated : reader.repair(mutated);
}

/** Mutations until the time is over. Inputs that reach new blocks join those that are mutated. */
async function fuzz(read: (bytes: Buffer, file: string) => unknown): Promise<void> {
  const random = randomFrom(work.seed);
  for (const seed of corpus) await attempt(read, seed);
  coverage?.fresh();
  base = peak();
  started = Date.now();
  let reported = started;
  while (Date.now() - started < work.seconds * 1000) {
    const batch: Buffer[] = [];
    for (const begun = Date.now(); batch.length < BATCH && Date.now() - begun < BATCH_MS;) {
      const bytes = next(random);
      batch.push(bytes);
      await attempt(read, bytes);
    }
    const blocks = coverage?.fresh();
    if (coverage !== undefined && blocks !== undefined && blocks.size > 0 && corpus.length < MOST_CORPUS)
      corpus.push(...(await coverage.choose(batch, blocks, (bytes) => attempt(read, bytes))));
    if (Date.now() - reported < 1000) continue;
    reported = Date.now();
    send({ kind: 'progress', progress: progress(), done: false });
  }
}

process.on('unhandledRejection', (error) =>
  send({ kind: 'crash', error: `unhandled: ${String(error)}`, input: save('crash', readFileSync(inputFile)) }),
);
const read = await reader.open(work.dir);
if (work.input === undefined) {
  const seeds = join(work.dir, 'seeds');
  corpus = readdirSync(seeds)
    .toSorted()
    .map((name) => readFileSync(join(seeds, name)));
  if (work.coverage) coverage = new Coverage();
  await fuzz(read);
} else {
  await attempt(read, readFileSync(join(work.dir, 'seeds', readdirSync(join(work.dir, 'seeds'))[0] ?? ''))); // what a first call loads is not the input's
  base = peak();
  [inputs, slowest] = [0, -1];
  await attempt(read, readFileSync(work.input));
}
closeSync(handle);
await finish();
