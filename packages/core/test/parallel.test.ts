import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { interruptible } from '../src/util/interrupt.ts';
import { mapParallel } from '../src/util/parallel.ts';

test('results are in the order of the list, whatever ends first, and no more calls than allowed run at once', async () => {
  let running = 0;
  let most = 0;
  const results = await mapParallel(
    [30, 1, 20, 2, 10, 3],
    async (ms) => {
      most = Math.max(most, (running += 1));
      await sleep(ms);
      running -= 1;
      return ms * 2;
    },
    3,
  );
  expect(results).toEqual([60, 2, 40, 4, 20, 6]);
  expect(most).toBe(3);
});

test('a list without items gives no results', async () => {
  expect(await mapParallel([], () => Promise.reject(new Error('never called')))).toEqual([]);
});

test('after an error no further call begins, and the error is thrown once the running calls have ended', async () => {
  const begun: number[] = [];
  const ended: number[] = [];
  const calls = mapParallel(
    Array.from({ length: 20 }, (_, index) => index),
    async (index) => {
      begun.push(index);
      if (index === 1) throw new Error('second call');
      await sleep(50);
      ended.push(index);
      if (index === 2) throw new Error('third call');
    },
    3,
  );
  await expect(calls).rejects.toThrow('second call');
  expect(begun).toEqual([0, 1, 2]);
  expect(ended).toEqual([0, 2]);
});

test('an abort ends the loop with its reason, after the running calls have ended', async () => {
  const controller = new AbortController();
  const ended: number[] = [];
  const calls = interruptible(controller.signal, () =>
    mapParallel(
      Array.from({ length: 20 }, (_, index) => index),
      async (index) => {
        if (index === 1) controller.abort(new Error('stop'));
        await sleep(10);
        ended.push(index);
      },
      2,
    ),
  );
  await expect(calls).rejects.toThrow('stop');
  expect(ended.toSorted()).toEqual([0, 1]);
});
