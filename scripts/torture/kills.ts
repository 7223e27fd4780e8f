import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openStore, walk } from '@flatcar/core/engine';
import { commandOf, makeRound, type Round, type Torture } from './commands.ts';
import { checkCheckout, checkImages, checkKeys, checkTree, differences, differing, snapshot, type Snapshot } from './invariants.ts';
import { mountsIn, processesLeft, runCommand, type Ended } from './run.ts';
import type { World } from './world.ts';

/** What was seen of one command. */
export interface Row {
  readonly command: string;
  /** Signals that met a running process. */
  kills: number;
  /** Runs that had ended before their signal. */
  missed: number;
  /** What was broken, one line each. */
  readonly broken: string[];
  /** Kills that left something to clean up for the next start, and what, by name. */
  readonly left: Map<string, number>;
  /** Longest time from SIGINT or SIGTERM to the end, in milliseconds. */
  slowest: number;
}

/** What undisturbed runs of a command leave. */
export interface Reference {
  readonly before: Snapshot;
  readonly after: Snapshot;
  readonly volatile: ReadonlySet<string>;
  /** Milliseconds. */
  took: number;
}

const MEMORY = '/dev/shm';
const inMemory = async (): Promise<string[]> => (await readdir(MEMORY).catch(() => [])).filter((name) => name.startsWith('flatcar-ext'));

/** The folder that a command changes. */
export const place = ({ kind }: Torture, round: Round): string =>
  kind === 'checkout' ? round.checkout : kind === 'store' ? round.store : round.out;

export const optionsOf = async (torture: Torture, round: Round, world: World) => ({
  env: { ...world.env(round), ...(await torture.env?.(world)) },
  cwd: round.checkout,
});

/** Runs a command twice without a signal: what differs between the two differs by itself. */
export async function reference(torture: Torture, world: World): Promise<Reference> {
  const seen: { before: Snapshot; after: Snapshot; took: number }[] = [];
  for (const name of ['a', 'b']) {
    const round = await makeRound(torture, world, await mkdtemp(join(world.dir, `reference-${torture.name}-${name}-`)));
    const before = await snapshot(place(torture, round));
    const ended = await runCommand(commandOf(torture, round, world), await optionsOf(torture, round, world));
    if (ended.code !== 0) throw new Error(`${torture.name} fails without any signal:\n${ended.output}`);
    seen.push({ before, after: await snapshot(place(torture, round)), took: ended.took });
    await rm(round.dir, { recursive: true, force: true });
  }
  const [a, b] = seen;
  if (a === undefined || b === undefined) throw new Error('two runs');
  return { before: a.before, after: a.after, volatile: differing(a.after, b.after), took: Math.min(a.took, b.took) };
}

/** What must be true at any moment, however a command ended. */
async function brokenNow(torture: Torture, round: Round, world: World, { before, after }: Reference): Promise<string[]> {
  switch (torture.kind) {
    case 'images':
      return checkImages(round.out, after);
    case 'tree':
      return checkTree(round.out, world.keys, world.dir, torture.name === 'mirror');
    case 'keys':
      return checkKeys(round.out);
    case 'checkout':
      return checkCheckout(await snapshot(round.checkout), before, after);
    case 'store':
      return [];
  }
}

/** What lies around: temporary files and folders in the output, the store, the folder for temporary files and in memory. */
export async function leftovers(torture: Torture, round: Round, { after }: Reference): Promise<string[]> {
  const left = (await readdir(round.temp)).map((name) => `temp ${name}`);
  left.push(...(await readdir(join(round.store, 'temp')).catch(() => [])).map((name) => `store/temp ${name}`));
  const results = await walk(join(round.store, 'results')).catch(() => []);
  left.push(
    ...results
      .map(({ path }) => path)
      .filter((path) => path.split('/').length === 2 && path.endsWith('.tmp'))
      .map((path) => `store/results ${path}`),
  );
  left.push(...(await inMemory()).map((name) => `memory ${name}`));
  if (torture.kind === 'store') return left;
  const beside = (await readdir(round.dir)).filter((name) => !['store', 'temp', 'checkout', 'out'].includes(name));
  left.push(...beside.map((name) => `beside ${name}`));
  const have = await snapshot(place(torture, round));
  left.push(...[...have.keys()].filter((path) => !after.has(path)).map((path) => `output ${path}`));
  return left;
}

/** A leftover without what is random in it. */
const kindOf = (left: string): string =>
  left.startsWith('store/') ? 'store/temp' : (left.replace(/[0-9a-f]{8,}|\d{3,}(?:-\w+)?|\w{6}$/g, '…').split('/')[0] ?? left);

/** Every private key that the world has must be nowhere but in its folder of keys. */
async function keysLeft(round: Round, secret: string): Promise<string[]> {
  const found: string[] = [];
  const inStore = await walk(join(round.store, 'temp')).catch(() => []);
  const memory = (await walk(MEMORY).catch(() => [])).filter(({ path }) => path.startsWith('flatcar-ext'));
  for (const { full, type } of [...(await walk(round.temp)), ...inStore, ...memory]) {
    const text = type === 'file' ? await readFile(full, 'utf8').catch(() => '') : '';
    if (text.includes(secret)) found.push(`a private key is left in ${full}`);
  }
  return found;
}

/** What an interruption, as Ctrl-C is one, must look like; within `limit` milliseconds. */
async function impolite(
  ended: Ended,
  name: NodeJS.Signals,
  limit: number,
  torture: Torture,
  round: Round,
  ref: Reference,
): Promise<string[]> {
  const problems: string[] = [];
  if ((ended.afterSignal ?? 0) > limit) problems.push(`it ended ${Math.round(ended.afterSignal ?? 0)} ms after ${name}`);
  const code = name === 'SIGINT' ? 130 : 143;
  // Before the program has a handler the kernel ends it; one that was done before it could look ends as it would have.
  if (ended.signal !== name && ended.code !== code && ended.code !== 0)
    problems.push(`exit code ${ended.code ?? ended.signal} after ${name}: ${ended.output}`);
  const left = await leftovers(torture, round, ref);
  // What it has finished may stay.
  const isWaste = (one: string): boolean => !one.startsWith('output ') || /\.tmp(?:\/|$)|\.staging|\.dist-/.test(one);
  problems.push(...left.filter(isWaste).map((one) => `${name} left ${one}`));
  return problems;
}

/** Runs a command to its end, as somebody does who runs it again after a crash; gives what is wrong afterwards. */
export async function finish(torture: Torture, round: Round, world: World, ref: Reference): Promise<string[]> {
  const options = await optionsOf(torture, round, world);
  const next = await runCommand(commandOf(torture, round, world), options);
  const isDone = torture.already !== undefined && torture.already.test(next.output);
  if (next.code !== 0 && !isDone) return [`the next run ended with ${next.code ?? next.signal}: ${next.output}`];
  const problems = await brokenNow(torture, round, world, ref);
  if (torture.kind !== 'store') {
    const have = await snapshot(place(torture, round));
    problems.push(...differences(have, ref.after, ref.volatile).map((one) => `after the next run ${one}`));
  }
  problems.push(...(await openStore(round.store).verify()).map((path) => `the store had a damaged ${path}`));
  const left = await leftovers(torture, round, ref);
  problems.push(...left.map((one) => `still left after the next start: ${one}`));
  return problems;
}

/** One signal at a random moment, and what is to be seen then and after the next run. */
async function once(
  torture: Torture,
  world: World,
  ref: Reference,
  row: Row,
  { name, after, limit, secret, keep }: { name: NodeJS.Signals; after: number; limit: number; secret: string; keep: boolean },
): Promise<void> {
  const round = await makeRound(torture, world, join(world.dir, `round-${torture.name}-${name}-${row.kills + row.missed}`));
  const options = await optionsOf(torture, round, world);
  const ended = await runCommand(commandOf(torture, round, world), { ...options, signal: { name, after } });
  const problems: string[] = [];
  if (ended.afterSignal === undefined) {
    row.missed += 1;
    ref.took = ref.took * 0.8 + ended.took * 0.2; // the machine may be quicker or slower now
  } else {
    row.kills += 1;
    if (name !== 'SIGKILL') row.slowest = Math.max(row.slowest, ended.afterSignal);
  }
  problems.push(...(await processesLeft(round.dir)).map((line) => `a process is left: ${line}`));
  problems.push(...(await mountsIn(round.dir)).map((point) => `a mount is left: ${point}`));
  problems.push(...(await brokenNow(torture, round, world, ref)).map((one) => `right after ${name}: ${one}`));
  if (name !== 'SIGKILL') problems.push(...(await impolite(ended, name, limit, torture, round, ref)));
  const left = (await leftovers(torture, round, ref)).map(kindOf);
  for (const kind of new Set(left)) row.left.set(kind, (row.left.get(kind) ?? 0) + 1);
  problems.push(...(await finish(torture, round, world, ref)));
  problems.push(...(await keysLeft(round, secret)));
  row.broken.push(...problems.map((problem) => `${name} after ${Math.round(after)} ms: ${problem}`));
  if (!keep || problems.length === 0) await rm(round.dir, { recursive: true, force: true });
}

/** Sends `count` signals at random moments to a command. */
export async function torment(
  torture: Torture,
  world: World,
  {
    signals,
    count,
    random,
    limit,
    keep,
  }: { signals: readonly NodeJS.Signals[]; count: number; random: () => number; limit: number; keep: boolean },
): Promise<Row> {
  const ref = await reference(torture, world);
  const row: Row = { command: torture.name, kills: 0, missed: 0, broken: [], left: new Map(), slowest: 0 };
  const secret = (await readFile(join(world.keys, 'roothash.key'), 'utf8')).split('\n')[2] ?? '';
  // One that misses does not count; so many misses are the fault of a machine that is busy with other work.
  for (let tries = 0; row.kills < count && tries < count * 3; tries += 1) {
    const name = signals[tries % signals.length] ?? 'SIGKILL';
    await once(torture, world, ref, row, { name, after: random() * ref.took, limit, secret, keep });
  }
  return row;
}
