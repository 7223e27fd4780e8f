// npm run torture: kills commands at random moments, fills their disks and runs them at once, and checks what is left.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { COMMANDS } from './torture/commands.ts';
import { torment, type Row } from './torture/kills.ts';
import { makeWorld } from './torture/world.ts';

const HELP = `kill commands at random moments and check that nothing is half, lost or left

npm run torture -- [OPTIONS] [COMMAND...]

  COMMAND...     ${COMMANDS.map(({ name }) => name).join(', ')} (default: all)
  --kills N      SIGKILLs for each command (default: 3)
  --signals N    SIGINTs and SIGTERMs for each command (default: 2)
  --seed S       seed of the random moments, a whole number (default: 1)
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
        limit: { type: 'string', default: '2000' },
        keep: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    const unknown = positionals.find((name) => !COMMANDS.some((one) => one.name === name));
    if (unknown !== undefined) throw new Error(`'${unknown}' is not one of ${COMMANDS.map(({ name }) => name).join(', ')}`);
    return {
      ...values,
      kills: number(values.kills, 'kills'),
      signals: number(values.signals, 'signals'),
      seed: number(values.seed, 'seed'),
      limit: number(values.limit, 'limit'),
      commands: positionals.length === 0 ? COMMANDS : COMMANDS.filter(({ name }) => positionals.includes(name)),
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

async function main(): Promise<number> {
  const { kills, signals, seed, limit, keep, json, help, commands } = readArguments();
  if (help) {
    console.log(HELP);
    return 0;
  }
  const say = (text: string): void => console.error(text);
  const dir = await mkdtemp(join(tmpdir(), 'torture-'));
  const world = await makeWorld(join(dir), say);
  const rows: { kills: Row; signals: Row }[] = [];
  try {
    for (const torture of commands) {
      const options = { random: randomOf(seed), limit, keep };
      const killed = await torment(torture, world, { ...options, signals: ['SIGKILL'], count: kills });
      const stopped = await torment(torture, world, { ...options, signals: ['SIGINT', 'SIGTERM'], count: signals });
      rows.push({ kills: killed, signals: stopped });
      for (const row of [killed, stopped]) for (const problem of row.broken) say(`BROKEN ${row.command}: ${problem}`);
      say(`${rowText(killed)}\n${rowText({ ...stopped, command: '  by signals' })}`);
    }
  } finally {
    if (!keep) await world.close();
    else say(`kept: ${world.dir}`);
  }
  const broken = rows.flatMap((row) => [...row.kills.broken, ...row.signals.broken]).length;
  if (json) console.log(JSON.stringify(rows, (_, value: unknown) => (value instanceof Map ? Object.fromEntries(value) : value), 2));
  else
    console.log(
      [
        'command        kills missed broken  slowest  left for the next start',
        ...rows.flatMap((row) => [rowText(row.kills), rowText({ ...row.signals, command: '  by signals' })]),
      ].join('\n'),
    );
  return broken === 0 ? 0 : 1;
}

process.exitCode = await main();
process.exit();
