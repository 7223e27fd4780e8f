import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer } from '../hosts.ts';

/** A shell in the machine over a serial line; guest/agent is the other end. */
export interface Shell {
  /** Waits for the agent of the next boot and returns the id of that boot. */
  ready(timeout: number): Promise<string>;
  /** Runs a bash script. */
  run(script: string, timeout: number): Promise<Answer>;
}

/** Talks to guest/agent over a pair of streams. */
export function shellOver(input: Writable, output: Readable): Shell {
  let text = '';
  let next = 0;
  const boots: string[] = [];
  const answers = new Map<number, Answer>();
  const waiting = new Set<() => void>();
  output.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n')) {
      const [first = '', second = '', third = ''] = text.slice(0, end).trim().split(' ');
      text = text.slice(end + 1);
      if (first === 'ready') boots.push(second);
      else answers.set(Number(first), { code: Number(second), said: Buffer.from(third, 'base64').toString('utf8').trimEnd() });
    }
    for (const wake of waiting) wake();
  });
  input.on('error', () => undefined); // the machine is gone: a timeout or QEMU's end ends every wait

  async function until<T>(value: () => T | undefined, timeout: number, what: string): Promise<T> {
    const end = Date.now() + timeout;
    for (;;) {
      const found = value();
      if (found !== undefined) return found;
      const left = end - Date.now();
      if (left <= 0) throw new Error(`no answer within ${timeout / 1000} s: ${what}`);
      const cancel = new AbortController();
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          waiting.delete(wake);
          resolve();
        };
        waiting.add(wake);
        sleep(left, undefined, { signal: cancel.signal }).then(wake, () => undefined);
      });
      cancel.abort();
    }
  }

  return {
    ready: (timeout) => until(() => boots.shift(), timeout, 'the machine did not come up'),
    async run(script, timeout) {
      next += 1;
      const id = next;
      input.write(`${id} ${Buffer.from(script).toString('base64')}\n`);
      return until(() => answers.get(id), timeout, script);
    },
  };
}
