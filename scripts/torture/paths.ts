import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { COMMANDS, commandOf, makeRound } from './commands.ts';
import { checkImages, differences, snapshot } from './invariants.ts';
import { optionsOf, reference } from './kills.ts';
import { runCommand } from './run.ts';
import type { World } from './world.ts';

/** What was seen of odd names of folders. */
export interface PathRow {
  readonly what: string;
  rounds: number;
  /** Names that are refused with a reason before anything is made. */
  refused: number;
  readonly broken: string[];
}

/** Names that a folder can have on Linux. */
export const NAMES: readonly string[] = [
  ['with blanks', ' blank first', 'blank last ', '-rf', '--out', "a'quote", 'a"quote', 'a`tick', '$HOME', '${x}', '$(true)'],
  ['a&b', 'a|b', 'a>b', 'a*b?', '[a]', '{a,b}', 'a\\b', '#a', 'a,b', 'a=b', '@a', '~', 'ümläut', '日本', '😀', 'e\u0301'],
  ['a:b', 'a;b', 'a%b', '%n', 'a\nb', 'a\tb', '\u001b[31m', '...', '.hidden', 'x'.repeat(200), 'x.tmp', 'node_modules'],
].flat();

/** Builds with a store, an output or a folder for temporary files of each name. */
export async function paths(world: World, names: readonly string[] = NAMES): Promise<PathRow[]> {
  const torture = COMMANDS.find(({ name }) => name === 'build');
  if (torture === undefined) return [];
  const ref = await reference(torture, world);
  const rows: PathRow[] = [];
  for (const place of ['store', 'out', 'temp'] as const) {
    const row: PathRow = { what: `build, name of ${place}`, rounds: 0, refused: 0, broken: [] };
    for (const name of names) {
      const plain = await makeRound(torture, world, join(world.dir, `path-${place}`));
      const odd = { ...plain, [place]: join(plain.dir, 'odd', name) };
      if (place === 'store') await world.shareStore(odd.store);
      else await mkdir(odd[place], { recursive: true });
      const ended = await runCommand(commandOf(torture, odd, world), await optionsOf(torture, odd, world));
      row.rounds += 1;
      const problems: string[] = [];
      if (ended.code !== 0) {
        row.refused += 1;
        if (place !== 'store' || !/must not contain/.test(ended.output) || !/^ {2}do: /m.test(ended.output))
          problems.push(ended.output.slice(-800));
        if ((await snapshot(odd.out)).size > 0) problems.push('it was refused, and something was made');
      } else {
        problems.push(...(await checkImages(odd.out, ref.after)));
        problems.push(...differences(await snapshot(odd.out), ref.after, ref.volatile));
      }
      row.broken.push(...problems.map((problem) => `${JSON.stringify(name)}: ${problem}`));
      await rm(plain.dir, { recursive: true, force: true });
    }
    rows.push(row);
  }
  return rows;
}
