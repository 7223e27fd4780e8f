import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import native from 'fs-native-extensions';
import { makeFolder } from './files.ts';
import { interruption } from './interrupt.ts';

/**
 * An open lock file. The lock belongs to the descriptor: the kernel lets go of it when the process dies, however it dies.
 * Node opens with O_CLOEXEC, so no child inherits it.
 */
export interface LockFile {
  /** Tries once; taking a shared lock on what is held exclusively turns it into a shared one, and the other way round. */
  tryTake(shared: boolean): boolean;
  /** Takes a place in the queue of those who want it alone; gives a function that says whether all who came before have gone. Undefined: ask again. */
  queue(): (() => boolean) | undefined;
  close(): void;
}

export async function openLock(file: string): Promise<LockFile> {
  await makeFolder(dirname(file));
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT);
  return { tryTake: (shared) => native.tryLock(fd, { shared }), queue: () => enqueue(fd), close: () => closeSync(fd) };
}

/**
 * The queue of a lock file: it holds the number of the last who came, byte 0 is locked while that is changed, and whoever came as number
 * n keeps byte n locked. It is one's turn when all bytes before can be locked. The kernel lets go of a dead one's byte, wherever it stood.
 */
function enqueue(fd: number): (() => boolean) | undefined {
  if (!native.tryLock(fd, 0, 1)) return undefined;
  try {
    let place = (Number.parseInt(readFileSync(fd, 'utf8'), 10) || 0) + 1;
    while (!native.tryLock(fd, place, 1)) place += 1; // of a file that was damaged
    writeSync(fd, String(place).padEnd(16), 0);
    return () => place === 1 || native.tryLock(fd, 1, place - 1);
  } finally {
    native.unlock(fd, 0, 1);
  }
}

/** Waits until something is so. It polls: a waiting thread would be one of the four that all file operations share. */
async function until(isSo: () => boolean, signal?: AbortSignal): Promise<void> {
  const stop = interruption(signal);
  for (let pause = 2; !isSo(); pause = Math.min(pause * 2, 100)) {
    stop?.throwIfAborted();
    await sleep(pause);
  }
}

/** Waits until a lock is ours, in no order. */
export const take = (lock: LockFile, shared: boolean, signal?: AbortSignal): Promise<void> => until(() => lock.tryTake(shared), signal);

/** Waits until a lock is ours alone, behind those who came before. */
async function takeTurn(lock: LockFile, signal?: AbortSignal): Promise<void> {
  let isOurTurn: (() => boolean) | undefined;
  await until(() => (isOurTurn ??= lock.queue()) !== undefined && isOurTurn(), signal);
}

// Who waits in this process, by lock file: descriptors of one process exclude each other too, but polling has no order.
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

/** Runs `fn` while holding an exclusive lock on a file, in this process and among all, in the order in which they came. Not reentrant. */
export async function withLock<T>(file: string, fn: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const before = queues.get(file);
  const run = async (): Promise<T> => {
    await untilAborted(before, interruption(signal));
    const lock = await openLock(file);
    try {
      await takeTurn(lock, signal);
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
