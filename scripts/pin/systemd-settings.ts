// Writes packages/core/src/model/data/systemd-settings.json: the settings of units that some systemd between that of the oldest Flatcar and Debian's
// newest knows, as systemd lists them itself, with the kinds of their values. In the sandbox: scripts/run node scripts/pin/systemd-settings.ts
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { makeFolder, openSandbox, openStore, openTools } from '@flatcar/core/engine';
import { debianRoot, SYSUPDATES, unpackRoot } from '@flatcar/testing';

const repository = resolve(import.meta.dirname, '../..');
const file = join(repository, 'packages/core/src/model/data/systemd-settings.json');
const store = openStore();
const tools = openTools(store);
const sandbox = openSandbox(store, tools);

const sections = new Map<string, Set<string>>();
/** Kinds of values by `Section.Key`: of a setting that changed its kind all of them. */
const kinds = new Map<string, Set<string>>();
const versions: string[] = [];
/** Adds what one systemd lists: `[Section]`, and below it `Key=KIND` a line. */
function add(list: string): void {
  let section = '';
  for (const line of list.split('\n')) {
    section = /^\[(\w+)\]$/.exec(line)?.[1] ?? section;
    const [, key, kind = ''] = /^(\w+)=(.*)$/.exec(line) ?? [];
    if (key === undefined) continue;
    kinds.set(`${section}.${key}`, (kinds.get(`${section}.${key}`) ?? new Set()).add(kind));
    const keys = sections.get(section) ?? new Set();
    sections.set(section, keys.add(key));
  }
}

// The roots of the tests of systemd-sysupdate have the real systemd of three ages; bookworm's is that of Flatcar's oldest.
for (const root of [{ suite: 'bookworm', packages: ['systemd'] }, ...SYSUPDATES.map((one) => one.root)]) {
  const image = await debianRoot(store, tools, root);
  await store.withTemp(async (temp) => {
    const dir = join(temp, 'root');
    await unpackRoot(tools, image, dir);
    const work = join(temp, 'work');
    await makeFolder(work);
    const options = { work, root: dir, cwd: '/', readOnly: true };
    const ask = (option: string): Promise<string> => sandbox.run('/usr/lib/systemd/systemd', [option], options);
    versions.push(/^systemd (\S+)/.exec(await ask('--version'))?.[1] ?? '');
    add(await ask('--dump-configuration-items'));
  });
}
/** Kinds of which lint knows the values (rules/unit-values.ts); a setting that has another kind with some systemd is not judged. */
const CHECKED = [
  'BOOLEAN',
  'SECONDS',
  'MODE',
  'UNSIGNED',
  'INTEGER',
  'NICE',
  'OOMSCOREADJUST',
  'SIGNAL',
  'SERVICETYPE',
  'SERVICERESTART',
  'KILLMODE',
];
/** Times that systemd calls `OTHER` or `TIMER`, and what it calls a mode and is a word. */
const TIME = /\.(?:Timeout(?:Stop|Abort|Idle)?Sec|Job(?:Running)?TimeoutSec|On(?:Active|Boot|Startup|UnitActive|UnitInactive)Sec)$/;
const WORD = /JobMode$/;
const isOf = (key: string, of: ReadonlySet<string>, kind: string): boolean =>
  !WORD.test(key) && ((of.size === 1 && of.has(kind)) || (kind === 'SECONDS' && TIME.test(key)));
const values = CHECKED.map((kind): [string, string[]] => [
  kind,
  [...kinds].flatMap(([key, of]) => (isOf(key, of, kind) ? [key] : [])).toSorted(),
]);
const data = {
  source: `systemd --dump-configuration-items of ${versions.join(', ')}`,
  sections: Object.fromEntries([...sections].map(([section, keys]) => [section, [...keys].toSorted()])),
  values: Object.fromEntries(values),
};
await writeFile(file, `${JSON.stringify(data, undefined, 2)}\n`);
console.log(`wrote ${file}: ${versions.join(', ')}`);
