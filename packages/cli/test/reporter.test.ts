// What a person sees of compilers and other long work while it runs.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { CompileEvent } from '@flatcar/core/engine';
import { setVerbosity } from '../src/output/output.ts';
import { Compilers } from '../src/output/compilers.ts';
import { reporter } from '../src/output/reporter.ts';

const compiling = (done: number): CompileEvent => ({
  type: 'compile',
  what: 'kubectl and kubelet',
  line: 'example.org/part',
  done,
  total: 1200,
  unit: 'packages',
});

test('an estimate is made once a rate is known, and counts from the first event', () => {
  let time = 100_000;
  const compilers = new Compilers(() => time);
  const at = (now: number, done: number): string => {
    time = now;
    return compilers.status(compiling(done));
  };
  expect(at(100_000, 1)).toBe('compiling kubectl and kubelet: package 1 of 1200');
  expect(at(105_000, 9)).toBe('compiling kubectl and kubelet: package 9 of 1200');
  // 200 packages in 100 s, and 999 are left.
  expect(at(200_000, 201)).toBe('compiling kubectl and kubelet: package 201 of 1200, about 8 min left');
  expect(at(675_000, 1151)).toBe('compiling kubectl and kubelet: package 1151 of 1200, about 20 s left');
  expect(at(700_000, 1200)).toBe('compiling kubectl and kubelet: package 1200 of 1200');
});

describe('where standard error is not a terminal', () => {
  const { isTTY } = process.stderr;
  beforeEach(() => {
    process.stderr.isTTY = false;
    vi.useFakeTimers();
  });
  afterEach(() => {
    process.stderr.isTTY = isTTY;
    vi.useRealTimers();
    vi.restoreAllMocks();
    setVerbosity('normal');
  });

  test('a line every 15 seconds tells how far it is, also while nothing happens, and none after the end', async () => {
    const lines: string[] = [];
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => lines.push(String(text).trim()) > 0);
    const { report, done } = await reporter();
    report({ type: 'step', text: 'compiling' });
    vi.advanceTimersByTime(14_000);
    expect(lines).toEqual(['0 s  compiling']);
    vi.advanceTimersByTime(1000);
    report(compiling(2));
    vi.advanceTimersByTime(5000);
    report(compiling(400));
    vi.advanceTimersByTime(25_000);
    expect(lines).toEqual([
      '0 s  compiling',
      '15 s  … compiling',
      '30 s  … compiling kubectl and kubelet: package 400 of 1200',
      '45 s  … compiling kubectl and kubelet: package 400 of 1200',
    ]);
    done();
    vi.advanceTimersByTime(60_000);
    expect(lines).toHaveLength(4);
    report({ type: 'step', text: 'packing' }); // `new` goes on after a question
    vi.advanceTimersByTime(15_000);
    expect(lines.slice(4)).toEqual(['105 s  packing', '120 s  … packing']);
    done();
  });
});
