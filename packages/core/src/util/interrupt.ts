import { AsyncLocalStorage } from 'node:async_hooks';

const current = new AsyncLocalStorage<AbortSignal | undefined>();

/**
 * Runs `fn` so that everything that it starts ends when the signal aborts: child processes, downloads, waits for locks, and loops over files.
 * The signal reaches them without being passed from function to function; a signal that is passed counts as well.
 */
export function interruptible<T>(signal: AbortSignal, fn: () => T): T {
  return current.run(signal, fn);
}

/** Runs clean-up that must finish although the signal has aborted. */
export function uninterrupted<T>(fn: () => T): T {
  return current.run(undefined, fn);
}

/** The signal of the surrounding call, joined with one that was passed. */
export function interruption(signal?: AbortSignal): AbortSignal | undefined {
  const around = current.getStore();
  if (around === undefined || around === signal) return signal;
  return signal === undefined ? around : AbortSignal.any([around, signal]);
}

/** Throws the signal's reason if it has aborted. */
export function throwIfInterrupted(): void {
  current.getStore()?.throwIfAborted();
}
