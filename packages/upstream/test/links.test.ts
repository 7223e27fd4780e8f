import { expect, test } from 'vitest';
import { readLinks } from '../src/sources/links.ts';

test('links are the last parts of what a page refers to, with the date behind them', () => {
  const page = `<a href="../">../</a> <a class=x href='tool-1.2.3.tgz'>tool-1.2.3.tgz</a>   2025-11-01 10:00\n<A HREF = v1%2E2/ >v</A><a href=/a/b/last>x</a>`;
  expect(readLinks(page)).toEqual([{ name: '..' }, { name: 'tool-1.2.3.tgz', date: '2025-11-01' }, { name: 'v1.2' }, { name: 'last' }]);
});

test.each([
  ['a name that is not encoded right', '<a href="%zz">x</a><a href="ok">x</a>', [{ name: 'ok' }]],
  ['a link without an end', '<a href="x"', []],
  ['no link', 'href', []],
])('%s is passed over', (_, page, links) => {
  expect(readLinks(page)).toEqual(links);
});

test('a page of links without ends takes a time that grows with its length', () => {
  const started = performance.now();
  expect(readLinks('href=a '.repeat(40_000))).toEqual([]); // 280 KB: the square of that is 10^11 steps
  expect(performance.now() - started).toBeLessThan(10_000);
});
