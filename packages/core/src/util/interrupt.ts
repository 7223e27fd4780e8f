import { AsyncLocalStorage } from 'node:async_hooks';

const current = new AsyncLocalStorage<AbortSignal | undefined>();

/**
 * Runs `fn` so that all that it begins ends when the signal aborts: child processes, downloads, waits for locks, and loops over files.
 * It reaches them without being passed on by each function between; a signal that is passed on counts as well.
 */
export function interruptible<T>(signal: AbortSignal, fn: () => T): T {
  return current.run(signal, fn);
}

/** Runs clean-up that must end although the signal has aborted. */
export function uninterrupted<T>(fn: () => T): T {
  return current.run(undefined, fn);
}

/** The signal of the call that this code runs in, joined with one that was passed on. */
export function interruption(signal?: AbortSignal): AbortSignal | undefined {
  const around = current.getStore();
  if (around === undefined || around === signal) return signal;
  return signal === undefined ? around : AbortSignal.any([around, signal]);
}

/** Throws the signal's reason when it has aborted. */
export function throwIfInterrupted(): void {
  current.getStore()?.throwIfAborted();
}
