// A thread of threads.ts: answers each call with the result of the function, or with its error.
import { parentPort } from 'node:worker_threads';
import { sendError, type Answer, type Call } from './threads.ts';

parentPort?.on('message', ({ module, name, args }: Call) => {
  const called = import(module).then((functions: Record<string, (...all: readonly unknown[]) => unknown>) => functions[name]?.(...args));
  called.then(
    (value) => parentPort?.postMessage({ value } satisfies Answer, []),
    (error: unknown) => parentPort?.postMessage({ error: sendError(error) } satisfies Answer, []),
  );
});
