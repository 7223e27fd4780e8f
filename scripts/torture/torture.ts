// npm run torture: kills commands at random moments, fills their disks and runs them at once, and checks what is left.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { COMMANDS } from './commands.ts';
import { disks, inOwnMounts, whyNoDisks } from './disks.ts';
import { torment, type Row } from './kills.ts';
import { NAMES, paths } from './paths.ts';
import { together } from './together.ts';
import { makeWorld, type World } from './world.ts';

/** What runs besides the signals to single commands. */
const OTHERS = ['disks', 'together', 'paths'];
const PARTS = [...COMMANDS.map(({ name }) => name), ...OTHERS];

const HELP = `kill commands at random moments and check that nothing is half, lost or left

npm run torture -- [OPTIONS] [PART...]

  PART...        signals to a command: ${COMMANDS.slice(0, 8)
    .map(({ name }) => name)
    .join(', ')},
                 ${COMMANDS.slice(8)
                   .map(({ name }) => name)
                   .join(', ')};
                 disks (full and read-only), together (commands at once), paths (odd names of folders). Default: all
  --kills N      SIGKILLs for each command (default: 3)
  --signals N    SIGINTs and SIGTERMs for each command (default: 2)
  --seed S       seed of the random moments, a whole number (default: 1)
  --sizes N      sizes of each full disk, 1 to 7 (default: 7)
  --many N       how many commands run at once (default: 8)
  --names N      odd names, the first of ${NAMES.length} (default: all)
  --limit MS     milliseconds in which a command must have ended after SIGINT or SIGTERM (default: 2000)
  --keep         keep the folders of rounds in which something was broken
  --json         print JSON
  -h, --help     print this help

Examples:
  npm run torture -- --kills 20
  npm run torture -- build publish --kills 5 --signals 0 --seed 7 --json`;

function readArguments() {
  const number = (text: string, name: string): number => {
    if (!/^\d+$/.test(text)) throw new Error(`--${name} ${text}: not a whole number`);
    return Number(text);
  };
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        kills: { type: 'string', default: '3' },
        signals: { type: 'string', default: '2' },
        seed: { type: 'string', default: '1' },
        sizes: { type: 'string', default: '7' },
        many: { type: 'string', default: '8' },
        names: { type: 'string', default: String(NAMES.length) },
        limit: { type: 'string', default: '2000' },
        keep: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    const unknown = positionals.find((name) => !PARTS.includes(name));
    if (unknown !== undefined) throw new Error(`'${unknown}' is not one of ${PARTS.join(', ')}`);
    return {
      ...values,
      kills: number(values.kills, 'kills'),
      signals: number(values.signals, 'signals'),
      seed: number(values.seed, 'seed'),
      sizes: number(values.sizes, 'sizes'),
      many: number(values.many, 'many'),
      names: number(values.names, 'names'),
      limit: number(values.limit, 'limit'),
      parts: positionals.length === 0 ? PARTS : positionals,
    };
  } catch (error) {
    console.error(`error: ${(error as Error).message}\nnext: see npm run torture -- --help`);
    process.exit(2);
  }
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const rowText = ({ command, kills, missed, broken, left, slowest }: Row): string =>
  [
    command.padEnd(14),
    String(kills).padStart(5),
    String(missed).padStart(6),
    String(broken.length).padStart(6),
    `${Math.round(slowest)} ms`.padStart(8),
    `  ${[...left].map(([what, times]) => `${times}× ${what}`).join(', ') || '–'}`,
  ].join(' ');

type Arguments = ReturnType<typeof readArguments>;

/** One line of the other tables. */
interface Other {
  readonly what: string;
  readonly rounds: number;
  readonly refused: number;
  readonly broken: readonly string[];
}

/** Everything that was asked for and seen. */
interface Seen {
  readonly kills: Row[];
  readonly signals: Row[];
  readonly others: Other[];
  readonly skipped: string[];
}

async function allOf(world: World, args: Arguments, say: (text: string) => void): Promise<Seen> {
  const { kills, signals, seed, sizes, many, names, limit, keep, parts } = args;
  const seen: Seen = { kills: [], signals: [], others: [], skipped: [] };
  for (const torture of COMMANDS.filter(({ name }) => parts.includes(name))) {
    const options = { random: randomOf(seed), limit, keep };
    const killed = await torment(torture, world, { ...options, signals: ['SIGKILL'], count: kills });
    const stopped = await torment(torture, world, { ...options, signals: ['SIGINT', 'SIGTERM'], count: signals });
    seen.kills.push(killed);
    seen.signals.push(stopped);
    say(`${rowText(killed)}\n${rowText({ ...stopped, command: '  by signals' })}`);
    for (const row of [killed, stopped]) for (const problem of row.broken) say(`BROKEN ${row.command}: ${problem}`);
  }
  const add = (rows: readonly Other[]): void => {
    seen.others.push(...rows);
    for (const row of rows) {
      say(otherText(row));
      for (const problem of row.broken) say(`BROKEN ${row.what}: ${problem}`);
    }
  };
  if (parts.includes('disks')) {
    const why = await whyNoDisks(world.dir);
    if (why === undefined) add(await disks(world, COMMANDS, sizes));
    else seen.skipped.push(`skipped: disks: ${why}`);
  }
  if (parts.includes('together')) add((await together(world, many)).map((row) => ({ ...row, rounds: row.commands })));
  if (parts.includes('paths')) add(await paths(world, NAMES.slice(0, names)));
  return seen;
}

const otherText = ({ what, rounds, refused, broken }: Other): string =>
  `${what.padEnd(42)} ${String(rounds).padStart(5)} ${String(refused).padStart(7)} ${String(broken.length).padStart(6)}`;

function text({ kills, signals, others, skipped }: Seen): string {
  return [
    'command        kills missed broken  slowest  left for the next start',
    ...kills.map(rowText),
    ...(signals.length === 0 ? [] : ['', 'command      signals missed broken  slowest  left for the next start', ...signals.map(rowText)]),
    ...(others.length === 0 ? [] : ['', `${'what'.padEnd(42)} ${'runs'.padStart(5)} refused broken`, ...others.map(otherText)]),
    ...skipped,
  ].join('\n');
}

async function main(): Promise<number> {
  const args = readArguments();
  if (args.help) {
    console.log(HELP);
    return 0;
  }
  if (args.parts.includes('disks')) {
    const code = await inOwnMounts();
    if (code !== undefined) return code;
  }
  const say = (text: string): void => console.error(text);
  const world = await makeWorld(await mkdtemp(join(tmpdir(), 'torture-')), say);
  try {
    const seen = await allOf(world, args, say);
    const plain = (_: string, value: unknown): unknown => (value instanceof Map ? Object.fromEntries(value) : value);
    console.log(args.json ? JSON.stringify(seen, plain, 2) : text(seen));
    return [...seen.kills, ...seen.signals, ...seen.others].some(({ broken }) => broken.length > 0) ? 1 : 0;
  } finally {
    if (args.keep) say(`kept: ${world.dir}`);
    else await world.close();
  }
}

process.exitCode = await main();
process.exit();
