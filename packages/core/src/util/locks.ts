import { closeSync, constants, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { constants as system } from 'node:os';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import native from 'fs-native-extensions';
import { makeFolder } from './files.ts';
import { interruption } from './interrupt.ts';

/**
 * An open lock file. The lock belongs to the descriptor: the kernel releases it when the process dies, however it dies.
 * Node opens files with O_CLOEXEC, so no child inherits it.
 */
export interface LockFile {
  /** Tries once to take the lock; converts a lock that is held already from exclusive to shared, or the other way round. */
  tryTake(shared: boolean): boolean;
  /** Enters the queue for the exclusive lock; returns a function that reports whether all earlier ones have left. Undefined: try again. */
  queue(): (() => boolean) | undefined;
  /** Writes the holder into the file, for those who wait. */
  sign(): void;
  /** What the last holder wrote with `sign`. */
  signature(): string;
  close(): void;
}

/** Position of the holder in a lock file: behind the number of the last in the queue. */
const SIGNATURE = { at: 16, length: 240 };

/** This process as a person knows it. */
function ownSignature(): string {
  const [, script = '', ...args] = process.argv;
  const name = basename(script) === 'main.ts' ? 'flatcar-ext' : basename(script);
  const command = [name, ...args].join(' ').slice(0, 60);
  return `process ${process.pid} (${JSON.stringify(command).slice(1, -1)})`; // in one line
}

function sign(fd: number): void {
  const bytes = Buffer.alloc(SIGNATURE.length, ' ');
  bytes.write(ownSignature());
  try {
    writeSync(fd, bytes, 0, bytes.length, SIGNATURE.at);
  } catch {
    // a full disk: the lock is held all the same
  }
}

let announce: (text: string) => void = () => undefined;

/** Sets the function that reports waits for other processes of more than some seconds, a line each. */
export function announceWaits(report: (text: string) => void): void {
  announce = report;
}

/** When a wait is reported, and how often again, in milliseconds. */
const PATIENCE = 3_000;
const REMINDER = 60_000;

/** Other processes that have a file open, as far as this user can see them. */
export async function usersOf(file: string): Promise<string[]> {
  const path = await realpath(file).catch(() => file);
  const found: string[] = [];
  for (const pid of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const open = await readdir(`/proc/${pid}/fd`).catch(() => []);
    const targets = await Promise.all(open.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
    if (!targets.includes(path)) continue;
    const [, script = '', ...args] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    found.push(
      `process ${pid} (${[basename(script) === 'main.ts' ? 'flatcar-ext' : basename(script), ...args].join(' ').trim().slice(0, 60)})`,
    );
  }
  return found;
}

/** Runs `fn`; its errors get the errno of the kernel and the file. libuv has no name for ENOLCK, which NFS returns. */
function named<T>(file: string, fn: () => T): T {
  try {
    return fn();
  } catch (cause) {
    const number = Number(/system error -(\d+)/.exec(cause instanceof Error ? cause.message : '')?.[1]);
    const known = (cause as NodeJS.ErrnoException).code;
    const code = Object.entries(system.errno).find(([, value]) => value === number)?.[0] ?? known;
    throw Object.assign(new Error(`${code ?? 'unknown error'}: lock '${file}'`, { cause }), { code, syscall: 'lock', path: file });
  }
}

/** Opens a lock file, which is made if it is missing. */
export async function openLock(file: string): Promise<LockFile> {
  await makeFolder(dirname(file));
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT);
  return {
    tryTake: (shared) => named(file, () => native.tryLock(fd, { shared })),
    queue: () => named(file, () => enqueue(fd)),
    sign: () => sign(fd),
    signature: () => {
      const bytes = Buffer.alloc(SIGNATURE.length);
      return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, SIGNATURE.at)).trim();
    },
    close: () => closeSync(fd),
  };
}

/**
 * Enters the queue of a lock file. The file contains the number of the last entry, byte 0 is locked while that changes, and entry number
 * n keeps byte n locked. It is an entry's turn when all earlier bytes can be locked. The kernel releases the byte of a dead process.
 */
function enqueue(fd: number): (() => boolean) | undefined {
  if (!native.tryLock(fd, 0, 1)) return undefined;
  try {
    let place = (Number.parseInt(readFileSync(fd, 'utf8'), 10) || 0) + 1;
    while (!native.tryLock(fd, place, 1)) place += 1; // the file was damaged
    writeSync(fd, String(place).padEnd(16), 0);
    return () => place === 1 || native.tryLock(fd, 1, place - 1);
  } finally {
    native.unlock(fd, 0, 1);
  }
}

/**
 * Waits until a condition holds, and reports a long wait. It polls, because a waiting thread would occupy one of the four that all file operations
 * share.
 */
async function until(isTrue: () => boolean, lock: LockFile, file: string, signal?: AbortSignal): Promise<void> {
  const stop = interruption(signal);
  let reported = Date.now() - REMINDER + PATIENCE;
  for (let pause = 2; !isTrue(); pause = Math.min(pause * 2, 100)) {
    stop?.throwIfAborted();
    if (Date.now() - reported > REMINDER) {
      reported = Date.now();
      announce(`waiting for ${lock.signature() || 'another process'}, which has the lock ${file}`);
    }
    await sleep(pause);
  }
}

/** Waits until the lock is taken, in no order. `file` is its path. */
export const take = (lock: LockFile, file: string, shared: boolean, signal?: AbortSignal): Promise<void> =>
  until(() => lock.tryTake(shared), lock, file, signal);

/** Waits until the exclusive lock is taken, in the order of arrival. */
async function takeTurn(lock: LockFile, file: string, signal?: AbortSignal): Promise<void> {
  let isOurTurn: (() => boolean) | undefined;
  await until(() => (isOurTurn ??= lock.queue()) !== undefined && isOurTurn(), lock, file, signal);
  lock.sign();
}

// Waiting calls of this process by lock file: descriptors of one process exclude each other too, but polling has no order.
const queues = new Map<string, Promise<unknown>>();

/** Lock files that this process holds or waits for. */
export function heldLocks(): ReadonlySet<string> {
  return new Set(queues.keys());
}

/** Waits for a promise that never fails, or for the signal, whose reason is thrown. */
async function untilAborted(promise: Promise<unknown> | undefined, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  if (promise === undefined || signal === undefined) return void (await promise);
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Runs `fn` while holding an exclusive lock on a file, within this process and among all processes, in the order of arrival. Not reentrant. */
export async function withLock<T>(file: string, fn: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const before = queues.get(file);
  const run = async (): Promise<T> => {
    await untilAborted(before, interruption(signal));
    const lock = await openLock(file);
    try {
      await takeTurn(lock, file, signal);
      return await fn();
    } finally {
      lock.close();
    }
  };
  const result = run();
  const settled = result.then(
    () => undefined,
    () => undefined,
  );
  queues.set(file, settled);
  try {
    return await result;
  } finally {
    if (queues.get(file) === settled) queues.delete(file);
  }
}
