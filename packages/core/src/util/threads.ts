import { availableParallelism } from 'node:os';
import { isMainThread, Worker } from 'node:worker_threads';
import type { ErrorCode } from './error-codes.ts';
import { UserError } from './errors.ts';
import { interruption } from './interrupt.ts';

/** Files of this size are worth a thread: starting one takes about as long as hashing these bytes. */
export const WORTH_A_THREAD = 16 << 20;

/** A call of an exported function of a module, sent to a thread. */
export interface Call {
  /** URL of the module. */
  readonly module: string;
  readonly name: string;
  readonly args: readonly unknown[];
}

/** An error on its way between threads: structured clones lose its class and its properties. */
export interface SentError {
  readonly isUser: boolean;
  readonly message: string;
  readonly fields: Readonly<Record<string, string | number | undefined>>;
}

/** What a thread answers. */
export type Answer = { readonly value: unknown } | { readonly error: SentError };

/** An error as a thread sends it. Its cause is left out. */
export function sendError(error: unknown): SentError {
  if (error instanceof UserError) {
    const { message, where, next, code } = error;
    return { isUser: true, message, fields: { where, next, code } };
  }
  const { name, message, code, errno, syscall, path } = error as NodeJS.ErrnoException;
  return { isUser: false, message, fields: { name, code, errno, syscall, path } };
}

function receivedError({ isUser, message, fields }: SentError): Error {
  if (!isUser) return Object.assign(new Error(message), fields);
  const { where, next, code } = fields as { where?: string; next?: string; code?: ErrorCode };
  return new UserError(message, { where, next, code });
}

const idle: Worker[] = [];
const waiting: (() => void)[] = [];
let running = 0;

function start(): Worker {
  const worker = new Worker(new URL('thread.ts', import.meta.url), { execArgv: [] }); // some options of node, such as --eval, are refused in threads
  worker.once('exit', () => {
    if (idle.includes(worker)) idle.splice(idle.indexOf(worker), 1);
  });
  return worker;
}

/** Waits for the answer of a thread. Throws the reason of an interruption, after which the thread must be ended. */
async function answerOf(worker: Worker, call: Call): Promise<Answer> {
  const signal = interruption();
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const interrupted = (): void => reject(signal?.reason as Error);
  const died = (): void => reject(new Error(`a thread ended while it ran ${call.name}`));
  worker.once('message', resolve);
  worker.once('error', reject);
  worker.once('exit', died);
  signal?.addEventListener('abort', interrupted);
  try {
    signal?.throwIfAborted();
    worker.postMessage(call, []);
    return await promise;
  } finally {
    worker.off('message', resolve);
    worker.off('error', reject);
    worker.off('exit', died);
    signal?.removeEventListener('abort', interrupted);
  }
}

/**
 * Calls an exported function of a module in another thread, so that the processor's other cores take part: hashing blocks the thread that does it. As
 * many calls run at once as there are cores. Arguments and result must be values that structuredClone copies. An interruption ends the thread.
 */
export async function inThread(module: string, name: string, ...args: readonly unknown[]): Promise<unknown> {
  if (running < availableParallelism()) running += 1;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  let worker: Worker | undefined;
  try {
    worker = idle.pop() ?? start();
    worker.ref();
    const answer = await answerOf(worker, { module, name, args });
    worker.unref(); // a thread that waits must not keep the program running
    idle.push(worker);
    worker = undefined;
    if ('error' in answer) throw receivedError(answer.error);
    return answer.value;
  } finally {
    await worker?.terminate();
    const next = waiting.shift();
    if (next === undefined) running -= 1;
    else next();
  }
}

/** True if work on so many bytes should go to another thread. */
export const isWorthAThread = (bytes: number): boolean => isMainThread && bytes >= WORTH_A_THREAD;
