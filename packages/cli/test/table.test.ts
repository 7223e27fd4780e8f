import { expect, test } from 'vitest';
import { tableRows } from '../src/output/table.ts';

const CELLS = [
  ['extension', 'version', 'file'],
  ['kubernetes', '1.37.0', 'extensions/kubernetes/dist/portable/kubernetes.portable_1.37.0_x86-64.raw'],
  ['yq', '4.54.2', 'short.raw'],
];

test('a table without a width has a line for each row', () => {
  expect(tableRows(CELLS)).toEqual([
    'extension   version  file',
    'kubernetes  1.37.0   extensions/kubernetes/dist/portable/kubernetes.portable_1.37.0_x86-64.raw',
    'yq          4.54.2   short.raw',
  ]);
});

test.each([40, 60, 72, 80])('a table fits into %i columns, and loses nothing', (width) => {
  const lines = tableRows(CELLS, width).join('\n').split('\n');
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(width);
  const file = lines.map((line) => line.slice(21)).join('');
  expect(file).toContain('extensions/kubernetes/dist/portable/kubernetes.portable_1.37.0_x86-64.raw');
});

test('a terminal that is too narrow for the columns makes them no narrower than words can be read', () => {
  const lines = tableRows(CELLS, 10).join('\n').split('\n');
  expect(lines[0]).toBe('extension   version  file');
});

test('a word is broken where it has no place for it', () => {
  expect(tableRows([['a'], ['x'.repeat(25)]], 10)).toEqual(['a', `${'x'.repeat(10)}\n${'x'.repeat(10)}\n${'x'.repeat(5)}`]);
});
