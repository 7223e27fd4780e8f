import { expect, test } from 'vitest';
import { readLinks } from '../src/sources/links.ts';

test('a page has the last part of each link, and the date that follows it', () => {
  const page = `<a href="../">../</a> <a class=x href='tool-1.2.3.tgz'>tool-1.2.3.tgz</a>   2025-11-01 10:00\n<A HREF = v1%2E2/ >v</A><a href=/a/b/last>x</a>`;
  expect(readLinks(page)).toEqual([{ name: '..' }, { name: 'tool-1.2.3.tgz', date: '2025-11-01' }, { name: 'v1.2' }, { name: 'last' }]);
});

test('the date of a link may be in the next cell of a table, and never is that of another link', () => {
  const page = `<tr><td><a href="tool-1.0.tgz?a=1&amp;b">x</a></td>\n<td align="right">2026-01-02 10:00</td></tr><a href=b>b</a> <a href=c>c</a> 2026-03-04`;
  expect(readLinks(page)).toEqual([{ name: 'tool-1.0.tgz?a=1&b', date: '2026-01-02' }, { name: 'b' }, { name: 'c', date: '2026-03-04' }]);
});

test.each([
  ['a name whose encoding is broken', '<a href="ok">x</a><a href="%zz">x</a> 2026-01-02', [{ name: 'ok' }]],
  ['a link without an end', '<a href="x"', []],
  ['no link', 'href', []],
])('%s is ignored', (_, page, links) => {
  expect(readLinks(page)).toEqual(links);
});

test('a page of links that do not end takes a time that grows with its length', () => {
  const started = performance.now();
  expect(readLinks('href=a '.repeat(40_000))).toEqual([]); // 280 KB: the square of that is 10^11 steps
  expect(performance.now() - started).toBeLessThan(10_000);
});
