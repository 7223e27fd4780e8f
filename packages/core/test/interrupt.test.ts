import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  buildExtension,
  cacheRoot,
  defineExtension,
  exec,
  fetchBlob,
  interruptible,
  mapParallel,
  openStore,
  openTools,
  selectTargets,
  uninterrupted,
  withLock,
} from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';

/** What is interrupted here would take minutes, or for ever; in milliseconds, with patience for a busy machine. */
const SOON = 60_000;

let dir: string;
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'interrupt-'))));
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Command lines of running processes that contain a text. */
async function running(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')));
  return lines.map((line) => line.replaceAll('\0', ' ')).filter((line) => line.includes(text));
}

/**
 * Aborts once `begun` is true, and gives how long the call took to end after that, in milliseconds; undefined where it was over before anybody saw
 * that it had begun.
 */
async function interruptedIfSeen(begun: () => Promise<boolean>, fn: () => Promise<unknown>): Promise<number | undefined> {
  const controller = new AbortController();
  let isOver = false;
  const result = interruptible(controller.signal, fn)
    .then(
      () => 'done',
      (error: unknown) => error,
    )
    .finally(() => (isOver = true));
  for (let waited = 0; !(await begun()); waited += 5) {
    if (isOver) {
      expect(await result).toBe('done');
      return undefined;
    }
    if (waited > SOON) throw new Error('it did not begin');
    await sleep(5);
  }
  const at = Date.now();
  controller.abort(new Error('stop'));
  const ended = await result;
  if (ended === 'done') return undefined; // it ended in the moment before
  expect(ended).toMatchObject({ message: 'stop' });
  return Date.now() - at;
}

/** The same for what takes so long that it must be seen. */
async function interrupted(begun: () => Promise<boolean>, fn: () => Promise<unknown>): Promise<number> {
  const took = await interruptedIfSeen(begun, fn);
  if (took === undefined) throw new Error('it was over before the signal');
  return took;
}

test('a signal ends a program and all that it started, also what ignores SIGTERM', async () => {
  const mark = `mark${randomBytes(6).toString('hex')}`;
  const script = `trap '' TERM; sh -c "trap '' TERM; sleep 300 || true; : ${mark}" & sleep 300; : ${mark}`;
  const took = await interrupted(
    async () => (await running(mark)).length >= 2,
    () => exec('sh', ['-c', script]),
  );
  expect(took).toBeLessThan(SOON);
  expect(await running(mark)).toEqual([]);
});

test('what a program leaves in the background ends with it', async () => {
  const mark = `mark${randomBytes(6).toString('hex')}`;
  await exec('sh', ['-c', `sh -c 'sleep 300; : ${mark}' >/dev/null 2>&1 &`]);
  await expect.poll(() => running(mark), { timeout: SOON }).toEqual([]);
});

test('SIGKILL to the process that started a program ends the program and all that it started', async () => {
  const mark = `mark${randomBytes(6).toString('hex')}`;
  const script = `
    import { exec } from ${JSON.stringify(join(import.meta.dirname, '../src/util/exec.ts'))};
    await exec('true', []);
    await exec('sh', ['-c', "sh -c 'sleep 300; : ${mark} child' & sleep 300; : ${mark}"]);`;
  const starter = spawn(process.execPath, ['--input-type=module-typescript', '--eval', script], { stdio: ['ignore', 'ignore', 'inherit'] });
  const programs = async (): Promise<string[]> => (await running(mark)).filter((line) => line.startsWith('sh '));
  await expect.poll(programs, { timeout: SOON }).toHaveLength(2);
  starter.kill('SIGKILL');
  await expect.poll(programs, { timeout: SOON }).toEqual([]);
});

test('a signal ends what makes a result, and leaves no temporary folder', async () => {
  const root = join(dir, 'busy');
  const store = openStore(root);
  const making = (): Promise<unknown> =>
    store.result('made', 'key', (fresh) => exec('sh', ['-c', `while :; do :; done; : ${fresh}`]).then(() => undefined));
  expect(await interrupted(async () => (await running(join(root, 'temp'))).length > 0, making)).toBeLessThan(SOON);
  expect(await running(join(root, 'temp'))).toEqual([]);
  expect(await readdir(join(root, 'temp'))).toEqual([]);
});

test('temporary files of programs are in the folder of the work that they are started for, which others cannot enter', async () => {
  const store = openStore(join(dir, 'temporary'));
  const seen = await store.withTemp(async (temp) => {
    expect((await stat(temp)).mode & 0o777).toBe(0o700);
    await exec('sh', ['-c', 'mktemp --tmpdir left-XXXXXX']);
    expect(await readdir(temp, { recursive: true })).toEqual(['.tmp', expect.stringMatching(/^\.tmp\/left-/)]);
    return temp;
  });
  expect(await readdir(join(seen, '..'))).toEqual([]);
});

test('a signal ends packing through the tools', async () => {
  const root = join(dir, 'store');
  const tools = openTools(openStore(cacheRoot()));
  const tree = join(dir, 'tree');
  await mkdir(tree);
  await writeFile(join(tree, 'data'), randomBytes(48 << 20));
  await tools.command('mksquashfs'); // fetched before, where it is not in the store
  const store = openStore(root);
  const took = await interrupted(
    async () => (await running(join(root, 'temp'))).length > 0,
    () =>
      store.result('packed', 'key', (fresh) =>
        tools
          .run('mksquashfs', [
            tree,
            join(fresh, 'out'),
            '-comp',
            'zstd',
            '-Xcompression-level',
            '22',
            '-b',
            '1M',
            '-processors',
            '1',
            '-quiet',
          ])
          .then(() => undefined),
      ),
  );
  expect(took).toBeLessThan(10_000); // packing takes longer by itself
  expect(await running(join(root, 'temp'))).toEqual([]);
  expect(await readdir(join(root, 'temp'))).toEqual([]);
});

// Each tool of a build is stopped while it runs, by the command line that `running` sees.
test.each<[string, string, 'fast' | 'publish']>([
  ['mksquashfs', 'portable', 'publish'],
  ['unsquashfs', 'portable', 'fast'],
  ['mkfs.erofs', '4790.0.0', 'publish'],
  ['fsck.erofs', '4790.0.0', 'fast'],
  ['systemd-repart', '4790.0.0', 'fast'],
])('a signal ends a build at %s, and leaves nothing of it', async (tool, target, profile) => {
  const at = join(dir, `build-${tool}`);
  await mkdir(join(at, 'files/usr/share/big'), { recursive: true });
  await writeFile(join(at, 'files/usr/share/big/data'), randomBytes(48 << 20));
  const tools = openTools(openStore(cacheRoot()));
  for (const one of ['mksquashfs', 'unsquashfs', 'mkfs.erofs', 'fsck.erofs', 'systemd-repart']) await tools.command(one); // fetched before
  const build = (root: string, out: string): Promise<unknown> =>
    buildExtension(
      {
        dir: at,
        fixture: false,
        pins: { '1.0': { revision: 0, coupled: {}, licenses: {}, bytes: {} } },
        extension: defineExtension({
          name: 'big',
          summary: 'a large file',
          versions: { kind: 'date', track: 'newest' },
          components: () => [],
        }),
      },
      {
        version: '1.0',
        arch: 'x86-64',
        targets: selectTargets(target),
        profile,
        origin: 'upstream',
        out,
        store: openStore(root),
        tools,
        report: () => undefined,
      },
    );
  const isRunning = async (): Promise<boolean> => (await running(at)).some((line) => line.includes(`--argv0 ${tool} `));
  let took: number | undefined;
  let [root, out] = ['', ''];
  // A tool that is quick may have ended before anybody looked: then everything is built once more, elsewhere.
  for (let round = 0; took === undefined && round < 20; round += 1) {
    [root, out] = [join(at, `store-${round}`), join(at, `out-${round}`)];
    took = await interruptedIfSeen(isRunning, () => build(root, out));
  }
  expect(took, `${tool} was stopped while it ran`).toBeLessThan(SOON);
  expect(await running(at)).toEqual([]);
  expect(await readdir(join(root, 'temp'))).toEqual([]);
  const left = await readdir(out, { recursive: true, withFileTypes: true }).catch(() => []);
  expect(left.filter((entry) => entry.isFile()).map(({ name }) => name)).toEqual([]);
});

test('a signal ends downloads, waits for locks and loops; clean-up still runs', async () => {
  let asked = false;
  const server = createServer(() => (asked = true));
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`;
  const store = openStore(join(dir, 'other'));
  expect(
    await interrupted(
      async () => asked,
      () => fetchBlob(store, { url, sha256: '0'.repeat(64) }),
    ),
  ).toBeLessThan(SOON);
  server.closeAllConnections();
  server.close();

  const lock = join(dir, 'lock');
  let held = false;
  const released = Promise.withResolvers<void>();
  const holder = withLock(lock, () => {
    held = true;
    return released.promise;
  });
  expect(
    await interrupted(
      async () => held,
      () => withLock(lock, async () => undefined),
    ),
  ).toBeLessThan(SOON);
  released.resolve();
  await holder;

  let count = 0;
  const items = Array.from({ length: 10_000 }, (_, index) => index);
  await interrupted(
    async () => count > 0,
    () => mapParallel(items, async () => ((count += 1), sleep(5)), 1),
  );
  expect(count).toBeLessThan(10_000);

  const controller = new AbortController();
  controller.abort(new Error('stop'));
  expect(await interruptible(controller.signal, () => uninterrupted(() => exec('echo', ['cleaned'])))).toBe('cleaned');
});
