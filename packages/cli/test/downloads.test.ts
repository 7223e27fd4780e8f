import type { DownloadEvent } from '@flatcar/core/engine';
import { expect, test } from 'vitest';
import { Downloads } from '../src/output/downloads.ts';

const MIB = 2 ** 20;
let time = 0;
function downloads(): { all: Downloads; event: (state: DownloadEvent['state'], name: string, received?: number, total?: number) => void } {
  time = 0;
  const all = new Downloads(() => time);
  return {
    all,
    event: (state, name, received = 0, total) =>
      all.add({ type: 'download', state, url: `https://example.org/pool/${name}`, received, total }),
  };
}

test('files that are fetched together are one line, with their number, bytes and rate, and one line when all are there', () => {
  const { all, event } = downloads();
  for (const name of ['a', 'b', 'c']) event('begun', name, 0, MIB);
  time = 2000;
  event('complete', 'a', MIB, MIB);
  event('running', 'b', MIB / 2, MIB);
  expect(all.status()).toBe('fetching 1 of 3 files: 1.5 MiB, 768.0 KiB/s');
  expect(all.takeSummary()).toBe(undefined);
  event('complete', 'b', MIB, MIB);
  time = 3000;
  event('complete', 'c', MIB, MIB);
  time = 60_000; // a compiler ran
  expect(all.takeSummary()).toBe('fetched 3 files: 3.0 MiB, 1.0 MiB/s');
  expect(all.takeSummary()).toBe(undefined);
});

test('a single file is named, with its size', () => {
  const { all, event } = downloads();
  event('begun', 'tool.tar.gz');
  time = 1000;
  event('running', 'tool.tar.gz', MIB, 4 * MIB);
  expect(all.status()).toBe('fetching tool.tar.gz: 1.0 MiB of 4.0 MiB, 1.0 MiB/s');
  time = 2000;
  event('complete', 'tool.tar.gz', 4 * MIB, 4 * MIB);
  expect(all.takeSummary()).toBe('fetched tool.tar.gz: 4.0 MiB, 2.0 MiB/s');
});

test('a file that cannot be fetched is not counted', () => {
  const { all, event } = downloads();
  event('begun', 'a');
  event('failed', 'a');
  expect(all.takeSummary()).toBe(undefined);
  event('begun', 'a');
  event('begun', 'b');
  event('failed', 'b');
  time = 1000;
  event('complete', 'a', MIB);
  expect(all.takeSummary()).toBe('fetched a: 1.0 MiB, 1.0 MiB/s');
});
