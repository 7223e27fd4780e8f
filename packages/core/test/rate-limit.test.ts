import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { retryAfter, waitOf } from '../src/http/rate-limit.ts';

const NOW = Date.parse('2026-11-27T12:00:00Z');
beforeEach(() => void vi.useFakeTimers({ now: NOW }));
afterEach(() => void vi.useRealTimers());

describe('Retry-After, in milliseconds from now', () => {
  test.each([
    ['0', 0],
    ['99999999999999999999', 365 * 86_400_000],
    ['Friday, 27-Nov-26 12:01:30 GMT', 90_000],
    ['Fri Nov 27 12:01:30 2026', 90_000],
    ['120', 120_000],
    ['Fri, 27 Nov 2026 12:01:30 GMT', 90_000],
    ['Fri, 27 Nov 2026 11:00:00 GMT', 0],
    ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
  ])('%j is %d', (value, wait) => {
    expect(retryAfter(value)).toBe(wait);
  });

  test.each([[undefined], [''], ['soon'], ['1.5'], ['1.5.2'], ['2026-11-27'], ['Fri, 99 Nov 2026'], ['-'], ['tomorrow at noon']])(
    '%j is not a time',
    (value) => {
      expect(retryAfter(value)).toBeUndefined();
    },
  );
});

describe('the pause that a response requests', () => {
  const reset = String(NOW / 1000 + 60);

  test.each<[string, number, Record<string, string>, number | undefined]>([
    ['Retry-After comes before a rate limit', 429, { 'retry-after': '5', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset }, 5000],
    ['GitHub: the limit is used up', 403, { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': reset }, 60_000],
    ['GitLab: the limit is used up', 429, { 'ratelimit-remaining': '0', 'ratelimit-reset': reset }, 60_000],
    ['a reset in the past', 429, { 'ratelimit-remaining': '0', 'ratelimit-reset': '1' }, 0],
    ['requests are left: a refusal for another reason', 403, { 'x-ratelimit-remaining': '5', 'x-ratelimit-reset': reset }, undefined],
    ['a reset that is not a number', 429, { 'ratelimit-remaining': '0', 'ratelimit-reset': 'soon' }, undefined],
    ['a Retry-After that is not a time', 503, { 'retry-after': 'soon' }, undefined],
    ['a status that does not limit', 500, { 'retry-after': '5' }, undefined],
  ])('%s', (_, status, headers, wait) => {
    expect(waitOf(status, headers)).toBe(wait);
  });

  test('the first of several headers counts', () => {
    expect(waitOf(503, { 'retry-after': ['7', '9'] })).toBe(7000);
  });
});
