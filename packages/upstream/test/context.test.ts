import type { Event } from '@flatcar/core/engine';
import { expect, test } from 'vitest';
import { countedPackages } from '../src/context.ts';

test('fetched packages are counted in one line; other events are unchanged', () => {
  const told: Event[] = [];
  const report = countedPackages((event) => void told.push(event));
  for (const text of [
    'resolving',
    'fetching http://deb.example.org/pool/a_1%3a2_amd64.deb',
    'fetching http://deb.example.org/pool/b_1_all.deb',
    'fetching http://deb.example.org/x.gz',
  ])
    report({ type: 'step', text });
  expect(told).toEqual([
    { type: 'step', text: 'resolving' },
    { type: 'log', what: 'packages', line: 'package 1: a_1:2_amd64' },
    { type: 'log', what: 'packages', line: 'package 2: b_1_all' },
    { type: 'step', text: 'fetching http://deb.example.org/x.gz' },
  ]);
});
