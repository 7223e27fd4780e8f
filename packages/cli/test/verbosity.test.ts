import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Event } from '@flatcar/core/engine';
import { setVerbosity, type Verbosity } from '../src/output/output.ts';
import { reporter } from '../src/output/reporter.ts';

const { isTTY } = process.stderr;
beforeEach(() => {
  process.stderr.isTTY = false;
});
afterEach(() => {
  process.stderr.isTTY = isTTY;
  vi.restoreAllMocks();
  setVerbosity('normal');
});

const EVENTS: readonly Event[] = [
  { type: 'step', text: 'packing yq' },
  ...['a.deb', 'b.deb'].flatMap((name): Event[] => {
    const of = { type: 'download', url: `https://example.org/${name}`, total: 2 ** 20 } as const;
    return [
      { ...of, state: 'begun', received: 0 },
      { ...of, state: 'complete', received: 2 ** 20 },
    ];
  }),
  { type: 'log', what: 'go', line: 'example.org/module' },
  { type: 'compile', what: 'tool', line: 'example.org/part', done: 1, total: 2, unit: 'packages' },
  { type: 'notice', text: 'the host cannot be reached' },
];

/** What the events look like on a standard error that is not a terminal, without the seconds. */
async function shown(verbosity: Verbosity): Promise<string[]> {
  const lines: string[] = [];
  vi.spyOn(process.stderr, 'write').mockImplementation(
    (text) =>
      lines.push(
        String(text)
          .replace(/^ *\d+ s {2}/, '')
          .replace(/[\d.]+ \w+\/s\s*$/, 'RATE')
          .trimEnd(),
      ) > 0,
  );
  setVerbosity(verbosity);
  const { report, done } = await reporter();
  EVENTS.forEach(report);
  done();
  return lines;
}

test.each([
  ['quiet', ['NOTICE the host cannot be reached']],
  ['normal', ['packing yq', 'fetched 2 files: 2.0 MiB, RATE', 'NOTICE the host cannot be reached']],
  [
    'verbose',
    [
      'packing yq',
      'fetching https://example.org/a.deb',
      'fetching https://example.org/b.deb',
      '… example.org/module',
      '… example.org/part',
      'fetched 2 files: 2.0 MiB, RATE',
      'NOTICE the host cannot be reached',
    ],
  ],
] as const)('--%s', async (verbosity, lines) => {
  expect(await shown(verbosity)).toEqual(lines);
});
