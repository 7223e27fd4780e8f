// A power cut at any moment leaves a tree that is whole: what is new is on the disk before anything leads to it, the index last.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { selectTargets } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { initKeys } from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';

const run = promisify(execFile);
const helper = (name: string): string => join(import.meta.dirname, 'helpers', name);

/** One change of the disk (helpers/record-syncs.ts). */
interface Event {
  readonly event: 'name' | 'write' | 'sync';
  readonly path: string;
  readonly ino: number;
  readonly folder?: number;
}

let dir: string;
let tree: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'durability-'));
  tree = join(dir, 'tree');
  await initKeys(join(dir, 'keys'));
  for (const version of ['1.0.0', '1.0.1']) await buildDemo(join(dir, version), { version, targets: selectTargets('portable,4593.2.5') });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Publishes in a process of its own; gives what it changed below the tree. */
async function published(version: string): Promise<Event[]> {
  const log = join(dir, `${version}.log`);
  const env = { ...process.env, SYNC_LOG: log, TREE_URL: 'https://one.example.org' };
  await run(
    process.execPath,
    ['--import', helper('record-syncs.ts'), helper('publish-once.ts'), tree, join(dir, 'keys'), join(dir, version)],
    { env },
  );
  const lines = (await readFile(log, 'utf8')).trim().split('\n');
  return lines.map((line) => JSON.parse(line) as Event).filter(({ path }) => [dir, tree].includes(path) || path.startsWith(`${tree}/`));
}

/** What a power cut just after event number `at` could take away, of all that was done before it. */
function unsafe(events: readonly Event[], at: number): string[] {
  const before = events.slice(0, at);
  const isSynced = (ino: number, from: number): boolean => before.slice(from).some((one) => one.event === 'sync' && one.ino === ino);
  return before.flatMap(({ event, path, ino, folder }, index) => {
    // What is staged or temporary is read by nobody: a name counts when it has its last one.
    const isHidden = /\/\.staging(?:\/|$)|\.tmp$/.test(path);
    if (
      event === 'write' &&
      !isSynced(ino, index) &&
      before.some((one) => one.event === 'name' && one.ino === ino && !/\.staging|\.tmp$/.test(one.path))
    )
      return [`content of ${path}`];
    if (event === 'name' && !isHidden && folder !== undefined && !isSynced(folder, index)) return [`name ${path}`];
    return [];
  });
}

test.each(['1.0.0', '1.0.1'])(
  'publishing %s: sums and index are on the disk before the timestamp leads to them, and all else before the sums',
  async (version) => {
    const events = await published(version);
    const isSwitch = ({ event, path }: Event): boolean => event === 'name' && path.endsWith('/.current');
    const switches = events.flatMap((one, index) => (isSwitch(one) ? [{ path: one.path, index }] : []));
    expect(switches.length).toBeGreaterThan(2);
    const metadata = join(tree, 'metadata');
    expect(switches.at(-1)?.path, 'the timestamp is last').toBe(join(metadata, '.current'));
    for (const { path, index } of switches)
      expect(
        unsafe(events, index).filter((one) => !one.endsWith('/.publish.lock')),
        path,
      ).toEqual([]);
    // And the command ends only when the timestamp itself is safe.
    const end = switches.at(-1)?.index;
    expect(events.slice(end).some(({ event, path }) => event === 'sync' && path === metadata)).toBe(true);
  },
);
