import { closeSync, openSync } from 'node:fs';
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
  close(): void;
}

export async function openLock(file: string): Promise<LockFile> {
  await makeFolder(dirname(file));
  const fd = openSync(file, 'a+');
  return { tryTake: (shared) => native.tryLock(fd, { shared }), close: () => closeSync(fd) };
}

/** Waits until a lock is ours. It polls: a waiting thread would be one of the four that all file operations share. */
export async function take(lock: LockFile, shared: boolean, signal?: AbortSignal): Promise<void> {
  const stop = interruption(signal);
  for (let pause = 2; !lock.tryTake(shared); pause = Math.min(pause * 2, 100)) {
    stop?.throwIfAborted();
    await sleep(pause);
  }
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

/** Runs `fn` while holding an exclusive lock on a file, in this process and among all. Not reentrant. */
export async function withLock<T>(file: string, fn: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const before = queues.get(file);
  const run = async (): Promise<T> => {
    await untilAborted(before, interruption(signal));
    const lock = await openLock(file);
    try {
      await take(lock, false, signal);
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
