import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openStore } from '@flatcar/core/engine';
import { COMMANDS, commandOf, makeRound, type Round } from './commands.ts';
import { checkKeys, checkTree } from './invariants.ts';
import { leftovers, optionsOf, place, reference } from './kills.ts';
import { runCommand, type Ended } from './run.ts';
import { copyTree, flatcarExt, VERSIONS, type World } from './world.ts';

/** What was seen of commands at once. */
export interface TogetherRow {
  readonly what: string;
  readonly commands: number;
  /** Those that ended with an error that says what to do. */
  refused: number;
  readonly broken: string[];
}

const [V0, V1] = VERSIONS;
const find = (name: string) => COMMANDS.find((one) => one.name === name);

/** An error is a refusal when a person can act on it. */
function count(row: TogetherRow, ended: readonly Ended[], mayRefuse: boolean): void {
  for (const { code, output } of ended) {
    if (code === 0) continue;
    if (mayRefuse && code === 1 && /^ {2}do: /m.test(output) && !/please report/.test(output)) row.refused += 1;
    else row.broken.push(`one ended with ${code}: ${output.slice(-1000)}`);
  }
}

/** The same command many times at once, on one store and one output: all succeed, and the output is that of one. */
async function same(world: World, name: string, times: number, mayRefuse = false): Promise<TogetherRow> {
  const row: TogetherRow = { what: `${times} × ${name}`, commands: times, refused: 0, broken: [] };
  const torture = find(name);
  if (torture === undefined) return row;
  const ref = await reference(torture, world);
  const round = await makeRound(torture, world, join(world.dir, `together-${name}-${times}`));
  const options = await optionsOf(torture, round, world);
  const ended = await Promise.all(Array.from({ length: times }, () => runCommand(commandOf(torture, round, world), options)));
  count(row, ended, mayRefuse);
  if (torture.kind === 'tree') row.broken.push(...(await checkTree(round.out, world.keys, world.dir)));
  if (torture.kind === 'keys') row.broken.push(...(await checkKeys(place(torture, round))));
  row.broken.push(...(await leftovers(torture, round, ref)).map((one) => `left: ${one}`));
  row.broken.push(...(await openStore(round.store).verify()).map((path) => `the store had a damaged ${path}`));
  await rm(round.dir, { recursive: true, force: true });
  return row;
}

/** Different commands on one tree at once: each ends well or with a reason, and the tree is whole. */
async function mixed(world: World, what: string, lines: (round: Round) => readonly (readonly string[])[]): Promise<TogetherRow> {
  const dir = join(world.dir, `together-${what.replaceAll(/\W+/g, '-')}`);
  const round: Round = { dir, store: join(dir, 'store'), temp: join(dir, 'temp'), checkout: world.checkout, out: join(dir, 'out') };
  await mkdir(round.temp, { recursive: true });
  await world.shareStore(round.store);
  await copyTree(world.trees.both, round.out);
  const all = lines(round);
  const row: TogetherRow = { what, commands: all.length, refused: 0, broken: [] };
  const ended = await Promise.all(all.map((line) => runCommand(flatcarExt(world.checkout, ...line), { env: world.env(round), cwd: dir })));
  count(row, ended, true);
  row.broken.push(...(await checkTree(round.out, world.keys, world.dir)));
  await rm(dir, { recursive: true, force: true });
  return row;
}

/** Commands at once: two, and `many`. */
export async function together(world: World, many: number): Promise<TogetherRow[]> {
  const rows = [
    await same(world, 'build', 2),
    await same(world, 'build', many),
    await same(world, 'publish', many),
    await same(world, 'first-publish', many),
    await same(world, 'pin', 4),
    await same(world, 'keys-init', 4, true),
    await same(world, 'keys-rotate', 4, true),
  ];
  const keys = ['--keys', world.keys];
  rows.push(
    await mixed(world, '2 × withdraw, publish, retire, 2 × mirror', ({ out, dir }) => {
      const withdraw = ['withdraw', `demo@${V1}`, '--content', V0, '--reason', 'a test', '--tree', out, ...keys];
      const mirror = ['mirror', '--to', join(dir, 'mirror'), '--tree', out, '--base-url', 'https://mirror.example.org', ...keys];
      return [
        withdraw,
        withdraw,
        ['publish', world.images[V0] ?? '', '--tree', out, ...keys],
        ['retire', '--tree', out, ...keys],
        mirror,
        mirror,
      ];
    }),
  );
  return rows;
}
