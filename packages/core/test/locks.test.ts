import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { announceWaits, usersOf, withLock } from '../src/util/locks.ts';

const LOCKS = resolve(import.meta.dirname, '../src/util/locks.ts');
let dir: string;
let order: string[];
const children: ChildProcess[] = [];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'locks-'));
  order = [];
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await rm(dir, { recursive: true, force: true });
});

/** The place in the queue that was given last. */
const lastPlace = async (): Promise<number> => Number.parseInt(await readFile(join(dir, 'lock'), 'utf8').catch(() => ''), 10) || 0;

/** Another process that wants the lock, and says so when it has it; resolves once it stands in the queue. */
async function wanting(name: string, hold = 20): Promise<{ child: ChildProcess; ended: Promise<unknown> }> {
  const before = await lastPlace();
  const text = `
    import { withLock } from ${JSON.stringify(LOCKS)};
    import { setTimeout as sleep } from 'node:timers/promises';
    await withLock(${JSON.stringify(join(dir, 'lock'))}, async () => {
      console.log(${JSON.stringify(name)});
      await sleep(${hold});
    });`;
  const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', text], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  child.stdout.on('data', (chunk: Buffer) => order.push(chunk.toString().trim()));
  await expect.poll(lastPlace, { timeout: 120_000 }).toBeGreaterThan(before);
  return { child, ended: once(child, 'close') };
}

test('processes have a lock in the order in which they came, and one that comes back waits behind them', async () => {
  const waiting: Promise<unknown>[] = [];
  await withLock(join(dir, 'lock'), async () => {
    for (const name of ['first', 'second', 'third', 'fourth']) waiting.push((await wanting(name)).ended);
    expect(order).toEqual([]);
  });
  await withLock(join(dir, 'lock'), async () => void order.push('back again'));
  await Promise.all(waiting);
  expect(order).toEqual(['first', 'second', 'third', 'fourth', 'back again']);
});

test('whoever dies, waiting or holding, is waited for no longer', async () => {
  const waiting: Promise<unknown>[] = [];
  await withLock(join(dir, 'lock'), async () => {
    const dying = await wanting('dies while it waits');
    waiting.push((await wanting('holds until it dies', 600_000)).ended, (await wanting('last')).ended);
    dying.child.kill('SIGKILL');
    await dying.ended;
  });
  await expect.poll(() => order, { timeout: 120_000 }).toEqual(['holds until it dies']);
  await sleep(200);
  expect(order).toEqual(['holds until it dies']);
  children[1]?.kill('SIGKILL');
  await Promise.all(waiting);
  expect(order).toEqual(['holds until it dies', 'last']);
});

test('a lock file with something else in it still admits one at a time', async () => {
  await writeFile(join(dir, 'lock'), '1');
  let inside = 0;
  await withLock(join(dir, 'lock'), async () => {
    await writeFile(join(dir, 'lock'), 'no number, and shorter than before');
    const { ended } = await wanting('other');
    await sleep(300);
    expect(order).toEqual([]);
    inside += 1;
    void ended;
  });
  await expect.poll(() => order, { timeout: 120_000 }).toEqual(['other']);
  expect(inside).toBe(1);
});

test('a wait of some seconds is told once, with who has the lock', async () => {
  const told: string[] = [];
  announceWaits((text) => told.push(text));
  try {
    let holder: ChildProcess | undefined;
    await withLock(join(dir, 'lock'), async () => void ({ child: holder } = await wanting('holder', 600_000)));
    await expect.poll(() => order, { timeout: 120_000 }).toEqual(['holder']);
    const waiting = withLock(join(dir, 'lock'), async () => undefined);
    await expect.poll(() => told, { timeout: 120_000 }).toHaveLength(1);
    expect(told[0]).toMatch(new RegExp(`^waiting for process ${holder?.pid} \\(.*\\), which has the lock ${join(dir, 'lock')}$`));
    expect(await usersOf(join(dir, 'lock'))).toEqual([expect.stringContaining(`process ${holder?.pid} (`)]);
    await sleep(500);
    holder?.kill('SIGKILL');
    await waiting;
    expect(told).toHaveLength(1);
  } finally {
    announceWaits(() => undefined);
  }
});

/** fcntl(2) as a file system without locks answers it. */
const WITHOUT_LOCKS = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
static int call(const char *name, int fd, int command, void *argument) {
  if (command == F_OFD_SETLK || command == F_OFD_SETLKW) { errno = ENOLCK; return -1; }
  int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
  return real(fd, command, argument);
}
int fcntl(int fd, int command, ...) { va_list a; va_start(a, command); return call("fcntl", fd, command, va_arg(a, void *)); }
int fcntl64(int fd, int command, ...) { va_list a; va_start(a, command); return call("fcntl64", fd, command, va_arg(a, void *)); }
`;

test('a file system without locks is told as one', async ({ skip }) => {
  await writeFile(join(dir, 'locks.c'), WITHOUT_LOCKS);
  const library = join(dir, 'locks.so');
  const compiled = spawnSync('cc', ['-shared', '-fPIC', '-o', library, join(dir, 'locks.c'), '-ldl']);
  skip(compiled.status !== 0, 'skipped: there is no C compiler');
  const text = `
    import { openStore } from ${JSON.stringify(resolve(import.meta.dirname, '../src/store/store.ts'))};
    const { message, where, next } = await openStore(${JSON.stringify(join(dir, 'store'))}).stats().catch((error) => error);
    console.log(JSON.stringify({ message, where, next }));`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module-typescript', '--eval', text], {
    encoding: 'utf8',
    env: { ...process.env, LD_PRELOAD: library },
  });
  expect(JSON.parse(stdout)).toEqual({
    message: 'the store cannot be used: the file system has no locks (lock: ENOLCK)',
    where: join(dir, 'store/in-use.lock'),
    next: expect.stringContaining('set FLATCAR_EXT_CACHE to a folder'),
  });
});
