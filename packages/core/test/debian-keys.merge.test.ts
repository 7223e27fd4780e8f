// Among the merge tests because it asks Debian's archive itself; unit tests do without network.
import { openStore } from '@flatcar/core/engine';
import { expect, test } from 'vitest';
import { openArchive } from '../src/debian/archive.ts';

test('the keys in this repository are those that Debian signs with today', async () => {
  const { date } = await openArchive(openStore()).packages('trixie-updates', 'main', 'arm64');
  expect(date.getTime()).toBeGreaterThan(Date.parse('2025-08-09'));
});
