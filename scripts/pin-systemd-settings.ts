// Writes packages/core/src/data/systemd-settings.json: the settings of units that some systemd between that of the oldest Flatcar and Debian's
// newest knows, as systemd lists them itself. Takes root: sudo scripts/run node scripts/pin-systemd-settings.ts
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { exec, openStore, openTools } from '../packages/core/src/index.ts';
import { debianRoot, SYSUPDATES, unpackRoot } from '../packages/testing/src/index.ts';

const root = resolve(import.meta.dirname, '..');
const file = join(root, 'packages/core/src/data/systemd-settings.json');
const store = openStore();
const tools = openTools(store);

const sections = new Map<string, Set<string>>();
const versions: string[] = [];
/** Adds what one systemd lists: `[Section]`, and below it `Key=KIND` a line. */
function add(list: string): void {
  let section = '';
  for (const line of list.split('\n')) {
    section = /^\[(\w+)\]$/.exec(line)?.[1] ?? section;
    const key = /^(\w+)=/.exec(line)?.[1];
    if (key === undefined) continue;
    const keys = sections.get(section) ?? new Set();
    sections.set(section, keys.add(key));
  }
}

// The roots of the tests of systemd-sysupdate have the real systemd of three ages; bookworm's is that of Flatcar's oldest.
for (const options of [{ suite: 'bookworm', packages: ['systemd'] }, ...SYSUPDATES.map((one) => one.root)]) {
  const image = await debianRoot(store, tools, options);
  await store.withTemp(async (temp) => {
    const dir = join(temp, 'root');
    await unpackRoot(tools, image, dir);
    const ask = (option: string): Promise<string> => exec('chroot', [dir, '/usr/lib/systemd/systemd', option]);
    versions.push(/^systemd (\S+)/.exec(await ask('--version'))?.[1] ?? '');
    add(await ask('--dump-configuration-items'));
  });
}
const data = {
  source: `systemd --dump-configuration-items of ${versions.join(', ')}`,
  sections: Object.fromEntries([...sections].map(([section, keys]) => [section, [...keys].toSorted()])),
};
await writeFile(file, `${JSON.stringify(data, undefined, 2)}\n`);
console.log(`wrote ${file}: ${versions.join(', ')}`);
